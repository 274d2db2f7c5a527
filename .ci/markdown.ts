/** Prints lines as a Markdown table that a person can read, the columns named as the first line's fields. */
export function printTable(lines: Record<string, string>[]): void {
  const columns = Object.keys(lines[0] ?? {});
  const widths = columns.map((column) =>
    Math.max(column.length, ...lines.map((line) => line[column]?.length ?? 0)),
  );
  const print = (cells: string[]) =>
    console.log(`| ${cells.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(" | ")} |`);
  print(columns);
  print(widths.map((width) => "-".repeat(width)));
  for (const line of lines) print(columns.map((column) => line[column] ?? ""));
}

/** A number of bytes as people read it. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
