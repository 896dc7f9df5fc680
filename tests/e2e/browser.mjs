// Drives a real Chromium: browser.mjs <chromium> <page-url> → runs the page until window.outcome is set, prints it as JSON.
import { chromium } from "playwright-core";

const [executablePath, url, timeoutMs, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
  ],
});
const said = [];
try {
  const page = await browser.newPage();
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`pageerror: ${error.message}`));
  await page.goto(url);
  await page.waitForFunction(() => window.outcome !== undefined, undefined, { timeout: Number(timeoutMs) });
  const outcome = await page.evaluate(() => window.outcome);
  if (screenshot) await page.screenshot({ path: screenshot });
  console.log(JSON.stringify({ outcome, said }));
} catch (error) {
  console.log(JSON.stringify({ outcome: { error: String(error) }, said }));
  process.exitCode = 1;
} finally {
  await browser.close();
}
