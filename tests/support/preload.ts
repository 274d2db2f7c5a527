import { afterAll } from "bun:test";
import { stopContainers } from "./containers.ts";

afterAll(stopContainers);
