import { type Certificate, createCA, createCert } from "mkcert";

/** A private certificate authority. */
export interface Authority extends Certificate {
  /** A certificate for hosts, else for the loopback interface; valid for two days. */
  certify: (...domains: string[]) => Promise<Certificate>;
}

/** Creates an authority, of a name by which it differs from others. */
export async function createAuthority(organization: string): Promise<Authority> {
  const ca = await createCA({ organization, countryCode: "DE", state: "-", locality: "-", validity: 2 });
  const certify: Authority["certify"] = (...domains) =>
    createCert({ ca, domains: domains.length > 0 ? domains : ["127.0.0.1", "localhost"], validity: 2 });
  return { ...ca, certify };
}
