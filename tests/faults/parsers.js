// One JSON text per line, in base64; answers one line each: what JSON.parse reads, written unambiguously, or "refused".
// Numbers are written as the bits of the double, since that is what JavaScript has; -0 as 0, its equal.
const bits = new DataView(new ArrayBuffer(8));
const byUnits = (a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);
function plain(value) {
  if (typeof value === "number") {
    bits.setFloat64(0, value + 0);  // -0 becomes 0
    return { n: bits.getBigUint64(0).toString(16).padStart(16, "0") };
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === "object") {
    return { o: Object.entries(value).sort(byUnits).map(([key, member]) => [key, plain(member)]) };
  }
  return value;
}
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  let answer = "refused";
  try {
    answer = JSON.stringify(plain(JSON.parse(strict.decode(Buffer.from(line, "base64")))));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
  }
  process.stdout.write(answer + "\n");
});
