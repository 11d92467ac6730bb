// Draws a scene (see tokenrank_guidance/app/scene.py) and says what was clicked. Needs nothing but a browser.
// mountStage(root, {luts, on}) returns {show(scene), box, scene(), values(), shown()}.
function mountStage(root, { luts, on }) {
  const MAP = 0.62; // how much of a pixel is the map, the rest being the picture in grey
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const LUTS = Object.fromEntries(Object.entries(luts).map(([name, text]) => [name, bytes(text)]));
  const make = (tag, name, more = {}) => Object.assign(document.createElement(tag), { className: name }, more);

  const box = make("div", "tr-stage");
  const head = make("div", "tr-head");
  const modes = make("div", "tr-modes");
  const frame = make("div", "tr-frame", { tabIndex: 0 });
  const tiles = make("div", "tr-tiles");
  const others = make("div", "tr-others");
  const scale = make("div", "tr-scale");
  const steps = make("div", "tr-steps");
  const read = make("output", "tr-read");
  read.setAttribute("aria-live", "polite");
  box.append(head, modes, frame, others, tiles, steps, scale, read);

  let scene = null, picture = "", heats = [], shown = 0, mode = "", painted = null, timer = 0, cut = 50, sides = [0, 1];

  // ── colours ──────────────────────────────────────────────────────────────────────────────────────────
  const shade = (lut, x) => {
    const i = 3 * Math.max(0, Math.min(255, Math.floor(256 * x)));
    return [lut[i], lut[i + 1], lut[i + 2]];
  };
  const css = (colour) => `rgb(${colour.join(",")})`;

  function paint(canvas, heat, grid) {
    [canvas.height, canvas.width] = grid;
    const image = new ImageData(grid[1], grid[0]);
    heat.values.forEach((value, i) => {
      image.data.set([...shade(LUTS.magma, (value - heat.low) / (heat.high - heat.low)), 255], 4 * i);
    });
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  const unpacked = (heat) => ({ ...heat, values: floats(heat.values), beside: floats(heat.beside) });
  const number = (x) => (x === 0 ? "0" : Math.abs(x) >= 100 ? x.toFixed(0) : x.toPrecision(3));
  const percent = (x) => `${number(100 * x)} %`;

  // ── parts ────────────────────────────────────────────────────────────────────────────────────────────
  function drawHead() {
    head.replaceChildren(make("h2", "", { textContent: scene.title }));
    const facts = [...scene.facts];
    if (scene.view === "walk" && heats[shown].note) facts.push(heats[shown].note);
    const shortly = facts.map((fact) => fact.split(", ").map(short).join(", "));
    head.append(make("p", "", { textContent: shortly.join(" · "), title: facts.join(" · ") }));
  }

  function drawModes() {
    const found = {
      segments: [["segments", "Segments"], ["map", "TokenRank"]],
      words: [["masks", "Masks"], ...heats.map((heat, i) => [`word ${i}`, heat.name])],
      guidance: [["compare", "Compare"], ...(heats.length ? [["masks", "Blurred tokens"]] : [])],
      walk: [["map", "Map"], ["plain", "Picture"]],
      tokenrank: [["map", "Map"], ["plain", "Picture"], ...(scene.region.length ? [["clear", "Clear the region"]] : [])],
    }[scene.view] || [];
    if (!found.some(([name]) => name === mode)) mode = (found[0] || ["map"])[0];
    modes.replaceChildren(...found.map(([name, text]) => {
      const button = make("button", "tr-mode", { type: "button", textContent: text });
      button.setAttribute("aria-pressed", String(name === mode));
      button.onclick = () => {
        if (name === "clear") return on.brush([]);
        mode = name;
        if (name.startsWith("word ")) shown = Number(name.slice(5));
        draw();
      };
      return button;
    }));
    modes.hidden = !found.length;
  }

  function layer(source, alt) {
    return make("img", "tr-layer", { src: source, alt, draggable: false });
  }

  function marks() {
    const [rows, columns] = scene.grid;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "tr-layer tr-marks");
    svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    svg.setAttribute("preserveAspectRatio", "none");
    const cell = (index, name) => {
      const rect = document.createElementNS(svg.namespaceURI, "rect");
      const at = { x: index % columns, y: Math.floor(index / columns), width: 1, height: 1, class: name };
      Object.entries(at).forEach(([key, value]) => rect.setAttribute(key, value));
      svg.append(rect);
    };
    (painted || scene.region).forEach((index) => cell(index, "tr-region"));
    if (scene.view === "walk") {
      const index = scene.token - scene.first;
      if (index >= 0 && index < rows * columns) { cell(index, "tr-under"); cell(index, "tr-token"); }
    }
    if (scene.view === "segments") scene.anchors.forEach(([row, column]) => {
      const dot = document.createElementNS(svg.namespaceURI, "circle");
      const at = { cx: column + 0.5, cy: row + 0.5, r: Math.max(rows, columns) / 130, class: "tr-anchor" };
      Object.entries(at).forEach(([key, value]) => dot.setAttribute(key, value));
      svg.append(dot);
    });
    return svg;
  }

  function drawFrame() {
    const [width, height] = scene.size;
    frame.hidden = scene.view === "heads";
    frame.style.touchAction = scene.view === "tokenrank" ? "none" : "manipulation";
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.maxWidth = `calc(72vh * ${width / height})`;
    if (mode === "compare") return drawCompare();
    const under = layer(picture, "the picture whose attention is shown");
    const parts = [under];
    const image = mode === "segments" ? scene.images.segments : mode === "masks" ? scene.images.masks : null;
    if (image) {
      under.classList.toggle("tr-grey", true);
      parts.push(layer(image, scene.title));
    } else if (heats.length && mode !== "plain") {
      under.classList.add("tr-grey");
      const canvas = make("canvas", "tr-layer tr-map");
      paint(canvas, heats[shown], scene.grid);
      canvas.style.opacity = scene.view === "guidance" ? 0.6 : MAP;
      parts.push(canvas);
    }
    const asked = { walk: "a walk's map; click a token", tokenrank: "TokenRank; drag over a region" }[scene.view];
    frame.setAttribute("aria-label", asked || scene.title);
    frame.setAttribute("role", "group");
    frame.replaceChildren(...parts, marks());
  }

  function drawCompare() {
    const names = Object.keys(scene.images);
    const [left, right] = sides.map((i) => names[Math.min(i, names.length - 1)]);
    const over = layer(scene.images[left], left);
    const clip = () => (over.style.clipPath = `inset(0 ${100 - cut}% 0 0)`);
    const line = make("div", "tr-cut");
    const slider = make("input", "tr-slider", { type: "range", min: 0, max: 100, value: cut });
    slider.setAttribute("aria-label", `left ${left}, right ${right}`);
    slider.oninput = () => { cut = Number(slider.value); clip(); line.style.left = `${cut}%`; };
    clip();
    line.style.left = `${cut}%`;
    frame.replaceChildren(layer(scene.images[right], right), over, line, slider);
  }

  function drawSides() {
    const names = Object.keys(scene.images);
    const pick = (side) => {
      const label = make("label", "", { textContent: side ? "right " : "left " });
      const select = make("select", "tr-select");
      names.forEach((name, i) => select.append(new Option(name.replace("difference:", "difference to "), i)));
      select.value = sides[side];
      select.onchange = () => { sides[side] = Number(select.value); draw(); };
      label.append(select);
      return label;
    };
    steps.replaceChildren(pick(0), pick(1));
  }

  function drawSteps() {
    steps.hidden = false;
    if (mode === "compare") return drawSides();
    const slides = scene.view === "walk" || (scene.view === "guidance" && heats.length > 1);
    if (!slides) { steps.hidden = true; return steps.replaceChildren(); }
    const slider = make("input", "", { type: "range", min: 0, max: heats.length - 1, value: shown, step: 1 });
    slider.setAttribute("aria-label", scene.view === "walk" ? "number of bounces" : "step of drawing");
    slider.setAttribute("aria-valuetext", heats[shown].name);
    slider.oninput = () => turn(Number(slider.value));
    const play = make("button", "tr-play", { type: "button", textContent: timer ? "❚❚" : "▶" });
    play.setAttribute("aria-label", timer ? "pause" : "play");
    play.onclick = () => (timer ? stop() : start());
    const note = scene.view === "guidance" ? `, ${heats[shown].note}` : "";
    steps.replaceChildren(play, slider, make("b", "", { textContent: heats[shown].name + note }));
  }

  function drawScale() {
    const bar = (lut, low, high, unit) => {
      const stops = Array.from({ length: 17 }, (_, i) => css(shade(LUTS[lut], i / 16.001)));
      const line = make("div", "tr-bar");
      line.style.background = `linear-gradient(90deg, ${stops.join(",")})`;
      const texts = [low, unit, high].map((text) => make("span", "", { textContent: text }));
      scale.replaceChildren(line, ...texts);
    };
    scale.hidden = false;
    if (scene.view === "heads") {
      const values = scene.tiles.map((tile) => tile.lambda2);
      return bar("viridis", number(Math.min(...values)), number(Math.max(...values)), "λ2: large = clear regions");
    }
    if (scene.legend.length && mode === "masks") {
      return scale.replaceChildren(...scene.legend.map(([name, colour]) => {
        const key = make("span", "tr-key", { textContent: name });
        key.style.setProperty("--key", colour);
        return key;
      }));
    }
    const heat = heats[shown];
    if (!heat || ["segments", "compare", "plain"].includes(mode) || scene.view === "guidance") return (scale.hidden = true);
    bar("magma", number(heat.low * scene.factor), number(heat.high * scene.factor), scene.unit);
  }

  function drawOthers() {
    const heat = heats[shown];
    others.hidden = !scene.others.length || scene.view !== "walk";
    others.replaceChildren(...scene.others.map(([token, text], i) => {
      const chip = make("button", "tr-other", { type: "button", textContent: text });
      const value = heat.beside[i], top = Math.max(...heat.beside, 1e-12);
      chip.style.setProperty("--weight", css(shade(LUTS.magma, value / top)));
      chip.setAttribute("aria-pressed", String(token === scene.token));
      chip.title = `${percent(value)} · ${number(value * scene.factor)} ${scene.unit}`;
      chip.onclick = () => on.pick(token);
      return chip;
    }));
  }

  function drawTiles() {
    tiles.hidden = scene.view !== "heads";
    const values = scene.tiles.map((tile) => tile.lambda2);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    tiles.replaceChildren(...scene.tiles.map((tile) => {
      const button = make("button", "tr-tile", { type: "button" });
      const canvas = make("canvas", "");
      paint(canvas, unpacked(tile.heat), tile.grid);
      canvas.style.aspectRatio = `${scene.size[0]} / ${scene.size[1]}`;
      button.style.setProperty("--lambda2", css(shade(LUTS.viridis, (tile.lambda2 - low) / (high - low || 1))));
      const name = make("span", "", { textContent: short(tile.layer) });
      const value = make("span", "", { textContent: `head ${tile.head} · λ2 ${tile.lambda2.toFixed(3)}` });
      button.append(canvas, name, value);
      button.title = `${tile.layer}, head ${tile.head}, λ2 ${tile.lambda2.toFixed(4)}`;
      button.onclick = () => on.choose(tile.layer, tile.head);
      return button;
    }));
  }

  const short = (name) => name.replace("transformer_blocks", "block").replace("attentions.", "").replace(".attn1", "")
    .replace(/\.block\.0$/, "").replace(".attention.attention", "").replace("encoder.layer", "layer");

  function draw() {
    if (!scene) return;
    drawModes(); drawHead(); drawFrame(); drawOthers(); drawTiles(); drawSteps(); drawScale();
    const walk = matchMedia("(hover: hover)").matches ? "click a token; ← → change the bounces" : "tap a token";
    const hint = { walk, heads: "click a map to walk with that head",
      tokenrank: "drag over the picture to let walks begin anew there" }[scene.view];
    read.textContent = hint || "";
  }

  // ── what is done ─────────────────────────────────────────────────────────────────────────────────────
  function turn(to) {
    shown = Math.max(0, Math.min(heats.length - 1, to));
    const focused = steps.contains(document.activeElement) && document.activeElement.type === "range";
    draw();
    if (focused) steps.querySelector("input").focus();
    if (scene.view === "walk") on.turn(shown + 1);
  }
  const stop = () => { clearInterval(timer); timer = 0; draw(); };
  const start = () => { timer = setInterval(() => turn((shown + 1) % heats.length), 600); draw(); };

  function at(event) {
    const area = frame.getBoundingClientRect(), [rows, columns] = scene.grid;
    const row = Math.floor(((event.clientY - area.top) / area.height) * rows);
    const column = Math.floor(((event.clientX - area.left) / area.width) * columns);
    return row < 0 || row >= rows || column < 0 || column >= columns ? null : row * columns + column;
  }

  function hover(event) {
    const index = scene && heats.length && mode !== "compare" ? at(event) : null;
    if (index === null) return;
    const value = heats[shown].values[index], columns = scene.grid[1];
    const place = `row ${Math.floor(index / columns) + 1}, column ${(index % columns) + 1}`;
    const says = { walk: `${percent(value)} of the walk`, tokenrank: `${percent(value)} of the time` }[scene.view];
    const scaled = `${number(value * scene.factor)} ${scene.unit}`;
    read.textContent = scene.view === "guidance" ? `${place}: ${value > 0.5 ? "blurred" : "kept"}`
      : `${place}: ${says ? says + ", " : ""}${scaled}`;
  }

  frame.addEventListener("pointermove", (event) => {
    hover(event);
    const index = painted && at(event);
    if (painted && index !== null && !painted.includes(index)) { painted.push(index); drawFrame(); }
  });
  frame.addEventListener("pointerdown", (event) => {
    if (!scene || scene.view !== "tokenrank") return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    painted = [at(event)].filter((index) => index !== null);
    drawFrame();
  });
  frame.addEventListener("pointerup", () => {
    if (!painted) return;
    const region = [...painted].sort((a, b) => a - b);
    painted = null;
    on.brush(region);
  });
  frame.addEventListener("click", (event) => {
    const index = scene && scene.view === "walk" ? at(event) : null;
    if (index !== null) on.pick(scene.first + index);
  });
  document.addEventListener("keydown", (event) => {
    if (!box.isConnected || !scene || scene.view !== "walk" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=range]), textarea, select, [contenteditable], [role=tab], [role=listbox]")) return;
    const [rows, columns] = scene.grid, index = scene.token - scene.first;
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!move || event.target.type === "range" && !steps.contains(event.target)) return;
    if (event.shiftKey) {
      if (index + move >= 0 && index + move < rows * columns) on.pick(scene.token + move);
    } else if (Math.abs(move) === 1) turn(shown + move);
    else return;
    event.preventDefault();
  });

  return {
    show(next) {
      if (!box.isConnected) root.replaceChildren(box);
      if (timer && (!scene || next.view !== scene.view)) { clearInterval(timer); timer = 0; }
      const sorts = (one) => Object.keys(one ? one.images : {}).filter((name) => !name.startsWith("difference:"));
      const names = sorts(next);
      if (!scene || next.view !== scene.view || names.join() !== sorts(scene).join()) {
        sides = [0, names.includes("TokenRank") ? names.indexOf("TokenRank") : Math.max(names.length - 1, 0)];
        mode = "";
      }
      scene = next;
      picture = next.picture || picture;
      heats = next.heats.map(unpacked);
      shown = Math.min(next.shown, Math.max(heats.length - 1, 0));
      draw();
    },
    box,
    scene: () => scene,
    values: () => Array.from(heats[shown].values),
    shown: () => shown,
  };
}
