const SPACE = /[ \t\r\n]*/y;
const STRING = /"(?:[^"\\\0\t\n\r]|\\(?:["\\/bfnrt]|u[\da-fA-F]{4}))*"/y;
const SCALAR = /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)(?![\w.+-])/y;

/** So many arrays and objects within each other that no document of ours has them. */
const MOST_NESTED = 1000;

/** Where in a text JSON breaks off, from 1; a position tells nothing of what is there. */
export function mistakeIn(json: string): { line: number; column: number } {
  const before = json.slice(0, endOfValid(json)).split("\n");
  return { line: before.length, column: before.at(-1)!.length + 1 };
}

function endOfValid(json: string): number {
  let at = 0;
  const skip = (pattern: RegExp) => {
    pattern.lastIndex = at;
    const matches = pattern.test(json);
    if (matches) at = pattern.lastIndex;
    return matches;
  };
  const skipMark = (mark: string) => {
    skip(SPACE);
    const matches = json[at] === mark;
    if (matches) at++;
    return matches;
  };
  const skipList = (end: string, skipOne: () => boolean) => {
    if (skipMark(end)) return true;
    do if (!skipOne()) return false;
    while (skipMark(","));
    return skipMark(end);
  };
  let nested = 0;
  const skipValue = (): boolean => {
    if (++nested > MOST_NESTED) return false;
    const isValue = skipOneValue();
    nested--;
    return isValue;
  };
  const skipOneValue = (): boolean => {
    if (skipMark("{"))
      return skipList("}", () => (skip(SPACE), skip(STRING)) && skipMark(":") && skipValue());
    if (skipMark("[")) return skipList("]", skipValue);
    return skip(STRING) || skip(SCALAR);
  };
  if (skipValue()) skip(SPACE);
  return at;
}
