// Draws the charts from the embedded recording. Text is set as text, never as markup.
(function () {
  "use strict";
  var root = document.documentElement;
  var run = JSON.parse(document.getElementById("run").textContent);
  var NS = "http://www.w3.org/2000/svg";
  var S = run.samples;
  var ROW = 20, ROWS_MAX = 6, LEFT = 70, RIGHT = 10, TOP = 22;

  function node(tag, attributes, parent, text) {
    var made = document.createElementNS(NS, tag);
    for (var key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.appendChild(made);
    return made;
  }
  function html(tag, parent, text, className) {
    var made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    if (parent) parent.appendChild(made);
    return made;
  }
  function bytes(n) {
    var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], i = 0;
    while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
    return n.toFixed(i ? 2 : 0) + " " + units[i];
  }
  function seconds(us) {
    var s = us / 1e6;
    if (s >= 90) return Math.floor(s / 60) + ":" + ("0" + Math.floor(s % 60)).slice(-2) + " min";
    return s >= 1 ? s.toFixed(2) + " s" : (us / 1e3).toFixed(1) + " ms";
  }
  function nice(span, count) {
    var raw = span / count, power = Math.pow(10, Math.floor(Math.log10(raw)));
    var lead = raw / power;
    return (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10) * power;
  }
  function byteTicks(top, count) {
    var units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], i = 0, unit = 1;
    while (top / unit >= 1024 && i < units.length - 1) { unit *= 1024; i++; }
    return ticks(top, unit, units[i], count);
  }
  function ticks(top, unit, name, count) {
    var step = nice(top / unit, count), found = [];
    var digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    for (var v = 0; v * unit <= top * 1.0001; v += step) {
      found.push({ value: v * unit, label: v.toFixed(digits) + " " + name });
    }
    return found;
  }
  function timeTicks(us, count) {
    var s = us / 1e6;
    if (s >= 180) return ticks(us, 6e7, "min", count);
    if (s >= 1) return ticks(us, 1e6, "s", count);
    return ticks(us, 1e3, "ms", count);
  }
  function other(s) {
    return Math.max(0, s.rss_bytes - s.live_bytes - s.packed_bytes - s.cached_bytes);
  }
  function busy(i) {
    if (i === 0) return S.length > 1 ? busy(1) : 0;
    var wall = S[i].at_us - S[i - 1].at_us;
    return wall > 0 ? (S[i].cpu_us - S[i - 1].cpu_us) / wall : 0;
  }
  var TIERS = [
    { name: "vectors in use", colour: "--live", of: function (s) { return s.live_bytes; } },
    { name: "packed", colour: "--packed", of: function (s) { return s.packed_bytes; } },
    { name: "cached blocks", colour: "--cached", of: function (s) { return s.cached_bytes; } },
    { name: "heap, program, files", colour: "--other", of: other }
  ].filter(function (tier) { return S.some(function (s) { return tier.of(s) > 0; }); });

  // Stage rows: one for each lane and depth, as long as there is room.
  var rows = [], rowOf = {};
  run.spans.forEach(function (span) {
    var key = span.track * 1000 + span.depth;
    if (!(key in rowOf)) rowOf[key] = null;
  });
  Object.keys(rowOf).map(Number).sort(function (a, b) { return a - b; }).forEach(function (key) {
    rowOf[key] = rows.length;
    rows.push([]);
  });
  run.spans.forEach(function (span) { rows[rowOf[span.track * 1000 + span.depth]].push(span); });
  function shown(span) { return span.count > 1 ? span.name + " and " + (span.count - 1) + " more" : span.name; }
  function stageAt(us) {
    var found = null;
    run.spans.forEach(function (span) {
      var inside = us >= span.start_us && us <= span.start_us + span.duration_us;
      if (inside && (!found || span.depth >= found.depth)) found = span;
    });
    return found;
  }
  function isPeakStage(span) {
    var end = span.start_us + span.duration_us;
    return run.peak_at_us >= span.start_us && run.peak_at_us <= end;
  }

  function frame(id, plotHeight, top, yTicks, below) {
    var box = document.getElementById(id);
    box.textContent = "";
    var width = Math.max(260, box.clientWidth);
    var f = { box: box, width: width, plotHeight: plotHeight, top: top };
    f.height = TOP + plotHeight + below + 24;
    f.x = function (us) { return LEFT + (width - LEFT - RIGHT) * us / Math.max(1, run.duration_us); };
    f.y = function (v) { return TOP + plotHeight * (1 - v / top); };
    f.svg = node("svg", { viewBox: "0 0 " + width + " " + f.height, height: f.height, role: "img" }, box);
    f.bands = node("g", {}, f.svg);
    yTicks.forEach(function (tick) {
      var y = f.y(tick.value);
      node("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y, stroke: "var(--line)", "stroke-width": 1 }, f.svg);
      node("text", { x: LEFT - 7, y: y + 4, "text-anchor": "end", "class": "tick", "data-value": tick.value }, f.svg, tick.label);
    });
    f.plot = node("g", {}, f.svg);
    var base = TOP + plotHeight + below;
    timeTicks(run.duration_us, width < 560 ? 4 : 9).forEach(function (tick) {
      var x = f.x(tick.value), last = x > width - 36;
      node("line", { x1: x, x2: x, y1: base, y2: base + 4, stroke: "var(--soft)" }, f.svg);
      node("text", { x: last ? width - RIGHT + 8 : x, y: base + 18, "text-anchor": last ? "end" : "middle" }, f.svg, tick.label);
    });
    return f;
  }
  function area(f, low, high, colour) {
    if (!S.length) return;
    var path = "", i;
    for (i = 0; i < S.length; i++) path += (i ? "L" : "M") + f.x(S[i].at_us).toFixed(1) + " " + f.y(high(i)).toFixed(1);
    for (i = S.length - 1; i >= 0; i--) path += "L" + f.x(S[i].at_us).toFixed(1) + " " + f.y(low(i)).toFixed(1);
    node("path", { d: path + "Z", fill: "var(" + colour + ")" }, f.plot);
  }
  function line(f, y, colour) {
    node("line", { x1: LEFT, x2: f.width - RIGHT, y1: y, y2: y, stroke: "var(" + colour + ")", "stroke-width": 2, "stroke-dasharray": "6 4" }, f.plot);
  }
  function legend(id, entries) {
    var list = document.getElementById(id + "-legend");
    list.textContent = "";
    entries.forEach(function (entry) {
      var item = html("li", list), swatch = html("i", item);
      if (entry.line) { swatch.className = "line"; swatch.style.borderColor = "var(" + entry.colour + ")"; }
      else swatch.style.background = "var(" + entry.colour + ")";
      item.appendChild(document.createTextNode(entry.name));
    });
  }
  function bands(f, height) {
    (rows[0] || []).forEach(function (span, i) {
      if (i % 2) return;
      var x = f.x(span.start_us), w = f.x(span.start_us + span.duration_us) - x;
      if (w >= 0.5) node("rect", { x: x, y: TOP, width: w, height: height, fill: "var(--band)" }, f.bands);
    });
  }
  function stageRows(f) {
    rows.slice(0, ROWS_MAX).forEach(function (row, r) {
      var y = TOP + f.plotHeight + 6 + r * ROW, covered = -1;
      row.forEach(function (span) {
        var x = f.x(span.start_us), end = f.x(span.start_us + span.duration_us);
        if (end < covered + 0.7) return;
        covered = end;
        var w = Math.max(0.7, end - x - 1);
        var rect = node("rect", { x: x, y: y, width: w, height: ROW - 3, rx: w > 4 ? 3 : 0,
          fill: isPeakStage(span) ? "var(--stage-peak)" : "var(--stage)" }, f.svg);
        node("title", {}, rect, shown(span) + ": " + seconds(span.duration_us) + ", peak " + bytes(span.peak_bytes));
        var room = Math.floor((w - 8) / 6.6), name = shown(span);
        if (room >= Math.min(name.length, 4)) {
          if (name.length > room) name = name.slice(0, Math.max(1, room - 2)) + "..";
          node("text", { x: x + 4, y: y + 13, "class": "stage", "pointer-events": "none" }, f.svg, name);
        }
      });
    });
  }

  function nearest(us) {
    var low = 0, high = S.length - 1;
    while (low < high) {
      var middle = (low + high) >> 1;
      if (S[middle].at_us < us) low = middle + 1; else high = middle;
    }
    return low > 0 && us - S[low - 1].at_us < S[low].at_us - us ? low - 1 : low;
  }
  function hover(f, lines) {
    if (!S.length) return;
    var cursor = node("line", { y1: TOP, y2: TOP + f.plotHeight, stroke: "var(--ink)", "stroke-width": 1, visibility: "hidden" }, f.svg);
    var tip = html("div", f.box, undefined, "tip"), at = 0;
    tip.hidden = true;
    function show(i) {
      at = Math.max(0, Math.min(S.length - 1, i));
      var x = f.x(S[at].at_us), stage = stageAt(S[at].at_us);
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.setAttribute("visibility", "visible");
      tip.textContent = "";
      html("b", tip, seconds(S[at].at_us) + (stage ? ", " + shown(stage) : ""));
      lines(at).forEach(function (entry) {
        var row = html("span", tip);
        html("span", row, entry[0]);
        html("span", row, entry[1]);
      });
      tip.hidden = false;
      var w = tip.offsetWidth, left = x + 12;
      if (left + w > f.width) left = x - 12 - w;
      tip.style.left = Math.max(0, Math.min(left, f.width - w)) + "px";
    }
    function hide() { tip.hidden = true; cursor.setAttribute("visibility", "hidden"); }
    function point(event) {
      var inside = event.clientX - f.svg.getBoundingClientRect().left - LEFT;
      show(nearest(run.duration_us * inside / (f.width - LEFT - RIGHT)));
    }
    f.box.onpointermove = point;
    f.box.onpointerdown = point;
    f.box.onpointerleave = hide;
    f.box.onblur = hide;
    f.box.tabIndex = 0;
    f.box.onkeydown = function (event) {
      var step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (step) { show(at + step * Math.max(1, Math.round(S.length / 100))); event.preventDefault(); }
      if (event.key === "Escape") hide();
    };
  }

  function drawMemory() {
    var limit = run.limit_bytes, peak = run.peak_bytes;
    var high = S.reduce(function (most, s) {
      return Math.max(most, s.rss_bytes, s.live_bytes + s.packed_bytes + s.cached_bytes);
    }, peak);
    var near = limit && limit <= high * 2.5;
    var top = Math.max(1, (near ? Math.max(limit, high) : high) * 1.04);
    var below = rows.length ? 6 + Math.min(rows.length, ROWS_MAX) * ROW : 0;
    var f = frame("memory", window.innerWidth < 760 ? 220 : 300, top, byteTicks(top, 5), below);
    bands(f, f.plotHeight);
    var base = S.map(function () { return 0; });
    TIERS.forEach(function (tier) {
      var under = base.slice();
      base = base.map(function (v, i) { return v + tier.of(S[i]); });
      var above = base;
      area(f, function (i) { return under[i]; }, function (i) { return above[i]; }, tier.colour);
    });
    var px = f.x(run.peak_at_us), py = f.y(peak), right = px > f.width / 2;
    if (near) {
      line(f, f.y(limit), "--limit");
      node("text", { x: right ? LEFT + 4 : f.width - RIGHT - 4, y: f.y(limit) - 6, "text-anchor": right ? "start" : "end", "class": "limit" }, f.svg, "limit " + bytes(limit));
    } else {
      node("text", { x: right ? LEFT + 4 : f.width - RIGHT - 4, y: 13, "text-anchor": right ? "start" : "end", "class": "limit" }, f.svg,
        limit ? "limit " + bytes(limit) + ", above the picture" : "no limit");
    }
    run.marks.forEach(function (mark) {
      var x = f.x(mark.at_us), y = TOP + f.plotHeight;
      var shape = node("path", { d: "M" + x + " " + (y - 9) + "l5 9h-10z", fill: "var(--mark)", stroke: "var(--card)" }, f.svg);
      node("title", {}, shape, "reclaim: " + mark.name + (mark.count > 1 ? " x" + mark.count : "") + (mark.freed_bytes ? ", " + bytes(mark.freed_bytes) + " given back" : ""));
    });
    node("circle", { cx: px, cy: py, r: 4.5, fill: "var(--peak)", stroke: "var(--card)", "stroke-width": 2, id: "peak", "data-peak-bytes": peak, "data-at-us": run.peak_at_us }, f.svg);
    node("text", { x: px + (right ? -8 : 8), y: Math.max(13, py - 7), "text-anchor": right ? "end" : "start", "class": "strong" }, f.svg, "peak " + bytes(peak));
    stageRows(f);
    hover(f, function (i) {
      var entries = TIERS.map(function (tier) { return [tier.name, bytes(tier.of(S[i]))]; });
      entries.push(["resident", bytes(S[i].rss_bytes)]);
      if (S[i].allocated_bytes) entries.push(["allocated", bytes(S[i].allocated_bytes)]);
      if (S[i].limit_bytes) entries.push(["limit", bytes(S[i].limit_bytes)]);
      return entries;
    });
    var entries = TIERS.slice();
    if (near) entries.push({ name: "limit", colour: "--limit", line: true });
    if (run.marks.length) entries.push({ name: "memory reclaimed", colour: "--mark" });
    legend("memory", entries);
  }
  function drawDisk() {
    if (!document.getElementById("disk")) return;
    var high = S.reduce(function (most, s) { return Math.max(most, s.spilled_bytes); }, 1) * 1.05;
    var f = frame("disk", 110, high, byteTicks(high, 3), 0);
    bands(f, f.plotHeight);
    area(f, function () { return 0; }, function (i) { return S[i].spilled_bytes; }, "--disk");
    hover(f, function (i) {
      return [["spill file", bytes(S[i].spilled_bytes)], ["written so far", bytes(S[i].spilled_total_bytes)],
        ["brought back so far", bytes(S[i].loaded_total_bytes)]];
    });
    legend("disk", [{ name: "spill file", colour: "--disk" }]);
  }
  function drawCpu() {
    var shares = S.map(function (_, i) { return busy(i); });
    // Cores over some milliseconds: a mean over a few samples shows the stage, not the tick.
    var reach = Math.max(1, Math.round(S.length / 300));
    var smooth = shares.map(function (_, i) {
      var from = Math.max(0, i - reach), to = Math.min(S.length - 1, i + reach), wall = S[to].at_us - S[from].at_us;
      return wall > 0 ? (S[to].cpu_us - S[from].cpu_us) / wall : shares[i];
    });
    var high = smooth.reduce(function (most, v) { return Math.max(most, v); }, run.threads) * 1.08;
    var f = frame("cpu", 120, high, ticks(high, 1, high < 1.5 ? "core" : "cores", 3), 0);
    bands(f, f.plotHeight);
    area(f, function () { return 0; }, function (i) { return smooth[i]; }, "--cpu");
    line(f, f.y(run.threads), "--limit");
    hover(f, function (i) {
      return [["busy", smooth[i].toFixed(2) + " cores"], ["idle", Math.max(0, run.threads - smooth[i]).toFixed(2) + " cores"]];
    });
    legend("cpu", [{ name: "busy", colour: "--cpu" }, { name: run.threads + (run.threads === 1 ? " core" : " cores") + " there", colour: "--limit", line: true }]);
  }
  function draw() {
    drawMemory();
    drawDisk();
    drawCpu();
    root.dataset.drawn = String(window.innerWidth);
    root.dataset.fits = String(root.scrollWidth <= window.innerWidth);
    root.dataset.dark = String(window.matchMedia("(prefers-color-scheme: dark)").matches);
  }
  draw();
  var drawnAt = window.innerWidth;
  window.addEventListener("resize", function () {
    if (window.innerWidth !== drawnAt) { drawnAt = window.innerWidth; draw(); }
  });
})();
