/** A proxy of the environment, by the variable that names it. */
export interface Proxy {
  variable: string;
  /** Its URL without user and password. */
  shown: string;
}

const FORM = /^https?:\/\/[^/]/i;

/** Throws an Error when a variable that names a proxy has no URL in it: fetch would go round the proxy, or fail without a reason. */
export function requireProxies(): void {
  for (const name of ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"]) {
    const value = process.env[name];
    if (value && (!FORM.test(value) || URL.parse(value) === null)) {
      throw new Error(`${name} is not a valid proxy URL (example: http://proxy:3128)`);
    }
  }
}

/** The proxy by which fetch asks a host, with or without its port; undefined where it asks the host itself. */
export function proxyFor(host: string, protocol: "http" | "https" = "https"): Proxy | undefined {
  const [name = ""] = host.toLowerCase().split(":");
  const exceptions = (process.env.no_proxy || process.env.NO_PROXY || "").toLowerCase().split(",");
  const isException = exceptions.some((one) => isExcepted(name, host, one.trim()));
  const variable = [`${protocol}_proxy`, `${protocol.toUpperCase()}_PROXY`].find((one) => process.env[one]);
  const url = variable === undefined ? null : URL.parse(process.env[variable] ?? "");
  return isException || variable === undefined || !url ? undefined : { variable, shown: url.origin };
}

/** Whether a host is what fetch takes one of the exceptions for: a network where it has a slash, else a name's end. */
function isExcepted(name: string, host: string, exception: string): boolean {
  if (exception === "*" || exception === host || exception === name) return true;
  if (!/^[\d.]+$/.test(name))
    return exception !== "" && `.${name}`.endsWith(`.${exception.replace(/^\./, "")}`);
  const [network = "", prefix = ""] = exception.split("/");
  const { BlockList, isIPv4 } = process.getBuiltinModule("node:net");
  if (!isIPv4(network) || !/^([12]?\d|3[0-2])$/.test(prefix)) return false;
  const networks = new BlockList();
  networks.addSubnet(network, Number(prefix), "ipv4");
  return networks.check(name, "ipv4");
}
