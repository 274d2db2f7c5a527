/** A shorter text is part of ordinary words. */
const LEAST_HIDDEN = 8;

const LONGEST_LINE = 2000;
const LONGEST_END = 200;
/** 100 characters and their quotes. */
const LONGEST_VALUE = 102;

/** What a terminal or a log viewer may act on: control characters, line separators, and marks that turn the direction of text. */
const UNPRINTABLE =
  /[\p{Cc}\u2028\u2029\u061c\u200b-\u200f\u2060\ufeff\ue000\ue001\u202a-\u202e\u2066-\u2069]+/gu;

/** Parts of a message that `verbatim` has marked. */
const VERBATIM = /\u{e000}([^\u{e001}]*)\u{e001}/gu;

/** stderr, as the lines of one step. */
export interface Stderr {
  /** Writes a message in one line; each only once, unless it is told `always`. */
  tell: (message: string, options?: { always?: boolean }) => void;
  /** Keeps a text, as it is or with other white space, out of every line. */
  hideSecret: (text: string | undefined) => void;
  /** Keeps a text out of every line but where a message is about it. */
  hideValue: (text: string | undefined) => void;
}

/** Opens stderr, with the secrets of the environment hidden. */
export function openStderr(): Stderr {
  // Not console.error, which colours its lines where a CI system asks for colours; and not the property as it may be
  // later, since AWS's credential providers are kept from warning there.
  const { warn: write } = console;
  const secrets = new Set<string>();
  const values = new Set<string>();
  const written = new Set<string>();
  const hideIn = (texts: Set<string>) => (text: string | undefined) => {
    if (text === undefined || text.length < LEAST_HIDDEN) return;
    // Who quotes a text may have made one line of it.
    for (const one of [text, oneLine(text), text.replace(/\s+/g, " ").trim()]) texts.add(one);
  };
  const hideSecret = hideIn(secrets);
  const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = process.env;
  for (const secret of [AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN]) hideSecret(secret);

  const tell: Stderr["tell"] = (message, { always = false } = {}) => {
    const parts = message.split(VERBATIM);
    const line = parts
      .map((part, index) =>
        index % 2 === 1
          ? verbatimPart(oneLine(part), secrets)
          : cut(masked(masked(oneLine(part), secrets, "***"), values, "***")),
      )
      .join("");
    if (always || !written.has(line)) write(line);
    written.add(line);
  };
  return { tell, hideSecret, hideValue: hideIn(values) };
}

function oneLine(text: string): string {
  return text.replace(UNPRINTABLE, " ");
}

/** Half a command is worse than none. */
function verbatimPart(text: string, secrets: Set<string>): string {
  if (masked(text, secrets, "***") !== text) return "(left out: it contains a secret)";
  // A value, which is cut only now: half a secret would pass unseen. A command begins with no quote.
  return text.startsWith('"') && text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE - 1)}"` : text;
}

function masked(text: string, hidden: Set<string>, mask: string): string {
  // The longest first: one secret may be the beginning of another.
  const longestFirst = [...hidden].toSorted((one, other) => other.length - one.length);
  return longestFirst.reduce((shown, one) => shown.replaceAll(one, mask), text);
}

function cut(text: string): string {
  // The reason is at the end of most messages, behind what it is about.
  return text.length > LONGEST_LINE
    ? `${text.slice(0, LONGEST_LINE - LONGEST_END)}…${text.slice(-LONGEST_END)}`
    : text;
}
