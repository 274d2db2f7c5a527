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
  const [name = ""] = host.split(":");
  const exceptions = (process.env.no_proxy || process.env.NO_PROXY || "").split(",").map((one) => one.trim());
  const isException = exceptions.some(
    (one) => one === "*" || one === host || (one !== "" && `.${name}`.endsWith(`.${one.replace(/^\./, "")}`)),
  );
  const variable = [`${protocol}_proxy`, `${protocol.toUpperCase()}_PROXY`].find((one) => process.env[one]);
  const url = variable === undefined ? null : URL.parse(process.env[variable] ?? "");
  return isException || variable === undefined || !url ? undefined : { variable, shown: url.origin };
}
