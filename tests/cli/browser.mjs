// Opens report pages in a real browser and looks at them as a reader would.
//
//   node browser.mjs SHOTS PAGE.html...
//
// Each page at 1280 and 400 pixels, light and dark: no message on the console, nothing asked of a
// network, no sideways scrolling, the drawn peak is the data's, and it is drawn where the axis says;
// open within two seconds. Screenshots go to the folder SHOTS. Exit code 1 names what is wrong.
import { chromium } from "playwright-core";
import { readFileSync } from "node:fs";
import { basename, resolve } from "node:path";

const OPEN_MS_MAX = 2000;
const [shots, ...pages] = process.argv.slice(2);
if (!shots || pages.length === 0) {
  console.error("usage: node browser.mjs SHOTS PAGE.html...");
  process.exit(2);
}
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
let wrong = 0;
const complain = (at, what) => { wrong += 1; console.error(`${at}: ${what}`); };

function embedded(path) {
  const page = readFileSync(path, "utf8");
  const start = '<script type="application/json" id="run">';
  const from = page.indexOf(start) + start.length;
  return JSON.parse(page.slice(from, page.indexOf("</script>", from)));
}

// What the page shows, read from its own elements.
function look() {
  const peak = document.getElementById("peak");
  const ticks = [...document.querySelectorAll("#memory text.tick")].map((tick) => ({
    value: Number(tick.dataset.value), y: Number(tick.getAttribute("y")) - 4,
  }));
  const [low, high] = [ticks[0], ticks[ticks.length - 1]];
  const y = Number(peak.getAttribute("cy"));
  const byAxis = low.value + (high.value - low.value) * (low.y - y) / (low.y - high.y);
  const texts = [...document.querySelectorAll(".chart text")].filter((text) => text.textContent);
  const boxes = texts.map((text) => ({ box: text.getBoundingClientRect(), text: text.textContent }));
  const overlaps = [];
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
    const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
    const tall = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
    if (wide > 1 && tall > 4) overlaps.push(`${a.text} | ${b.text}`);
  }));
  const root = document.documentElement.dataset;
  return {
    peakBytes: Number(peak.dataset.peakBytes), byAxis, overlaps,
    axisTop: high.value, fits: document.documentElement.scrollWidth <= window.innerWidth,
    drawn: root.drawn, dark: root.dark,
    charts: document.querySelectorAll(".chart svg").length,
    shown: document.querySelector(".figures dd").textContent,
  };
}

for (const path of pages) {
  const data = embedded(path);
  for (const width of [1280, 400]) {
    for (const colorScheme of ["light", "dark"]) {
      const at = `${basename(path)} at ${width}, ${colorScheme}`;
      const viewport = { width, height: 900 };
      const context = await browser.newContext({ viewport, colorScheme, offline: true });
      const page = await context.newPage();
      page.on("console", (message) => complain(at, `console: ${message.text()}`));
      page.on("pageerror", (error) => complain(at, `error: ${error.message}`));
      page.on("request", (request) => {
        if (!/^(file|data):/.test(request.url())) complain(at, `asked for ${request.url()}`);
      });
      const began = Date.now();
      await page.goto("file://" + resolve(path), { waitUntil: "load" });
      const openMs = Date.now() - began;
      const seen = await page.evaluate(look);
      if (openMs > OPEN_MS_MAX) complain(at, `opened in ${openMs} ms`);
      if (seen.peakBytes !== data.peak_bytes) complain(at, `peak ${seen.peakBytes} is drawn`);
      // Within a pixel of the axis: 300 pixels, 220 on a phone.
      const off = Math.abs(seen.byAxis - data.peak_bytes);
      if (!(off <= seen.axisTop / 150)) complain(at, `the axis says ${seen.byAxis} for the peak`);
      if (!seen.fits) complain(at, "scrolls sideways");
      if (seen.drawn !== String(width)) complain(at, `drawn for ${seen.drawn}`);
      if (seen.dark !== String(colorScheme === "dark")) complain(at, `dark: ${seen.dark}`);
      if (seen.charts < 2) complain(at, `${seen.charts} charts`);
      if (seen.overlaps.length) complain(at, `labels overlap: ${seen.overlaps.join("; ")}`);
      // A pointer over the chart shows the values there.
      await page.locator("#memory").hover({ position: { x: width / 2, y: 60 } });
      if (!(await page.locator("#memory .tip").isVisible())) complain(at, "no values under a pointer");
      const name = `${basename(path, ".html")}-${width}-${colorScheme}.png`;
      await page.screenshot({ path: resolve(shots, name), fullPage: true });
      console.log(`${at}: open in ${openMs} ms, peak ${seen.shown}`);
      await context.close();
    }
  }
}
await browser.close();
process.exit(wrong ? 1 : 0);
