// A page without a server: walks are computed here, x ← x P, or x ← x P_in, from the matrix that the page holds.
(() => {
  const { scene, luts, chain } = JSON.parse(document.getElementById("data").textContent);
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const packed = (values) => btoa(Array.from(new Uint8Array(Float32Array.from(values).buffer),
    (byte) => String.fromCharCode(byte)).join(""));
  const matrix = chain && floats(chain.matrix), total = scene.total;
  const received = new Float64Array(total);
  if (chain) matrix.forEach((value, i) => (received[i % total] += value));

  function step(x) {
    const next = new Float64Array(total);
    for (let i = 0; i < total; i++) for (let j = 0; j < total; j++) {
      const p = matrix[i * total + j];
      if (chain.direction === "outgoing") next[j] += x[i] * p;
      else if (received[j] > 0) next[i] += (x[j] * p) / received[j];
    }
    return next;
  }

  function quantile(sorted, share) {
    const at = share * (sorted.length - 1), low = Math.floor(at);
    return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  }

  function pick(token) {
    if (!chain) return;
    let x = new Float64Array(total);
    x[token] = 1;
    scene.token = token;
    scene.shown = stage.shown();
    const count = scene.grid[0] * scene.grid[1];
    scene.heats.forEach((heat) => {
      x = step(x);
      const image = x.slice(scene.first, scene.first + count), sorted = [...image].sort((a, b) => a - b);
      const share = 100 * image.reduce((sum, value) => sum + value, 0);
      heat.values = packed(image);
      heat.beside = packed(scene.others.map(([other]) => x[other]));
      heat.low = quantile(sorted, 0.01);
      heat.high = Math.max(quantile(sorted, 0.99), heat.low + 1e-12);
      heat.note = heat.note && `${share.toFixed(0)} % on the picture`;
    });
    stage.show(scene);
  }

  const nothing = () => {};
  const stage = mountStage(document.getElementById("stage"),
    { luts, on: { pick, turn: nothing, choose: nothing, brush: nothing } });
  document.getElementById("stage").stage = stage;
  stage.show(scene);
})();
