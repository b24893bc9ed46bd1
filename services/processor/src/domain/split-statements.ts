/**
 * The statements of an SQL text, without the empty ones. Knows comments, quoted names, strings and dollar quotes, so
 * that function bodies stay whole. Databases behind the port take one statement at a time.
 */
export function splitStatements(sql: string): string[] {
  const token = /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$(?:[A-Za-z_]\w*)?\$)[\s\S]*?\1|;/g;
  const statements: string[] = [];
  let start = 0;
  let text = '';
  for (let match = token.exec(sql); match; match = token.exec(sql)) {
    const isComment = match[0].startsWith('--') || match[0].startsWith('/*');
    if (match[0] !== ';' && !isComment) continue;
    text += sql.slice(start, match.index);
    start = token.lastIndex;
    if (isComment) text += ' ';
    else {
      statements.push(text.trim());
      text = '';
    }
  }
  statements.push((text + sql.slice(start)).trim());
  return statements.filter((statement) => statement !== '');
}
