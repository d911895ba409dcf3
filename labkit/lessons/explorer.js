// The player: controls, picture, words. `ask(indices)` promises one frame {src, text, spots} or {error}: live it asks
// the kernel, on a static page it looks into the frames that the page carries. Nothing else differs.
function player(root, spec, ask) {
  const make = (tag, set, ...inside) => {
    const element = Object.assign(document.createElement(tag), set);
    element.append(...inside);
    return element;
  };
  const typeset = text => text.split(/(?<=\S)([_^][−\w.]*\w)/).map((part, i) =>      // σ_w and e^−2.5
    i % 2 ? make(part[0] === '_' ? 'sub' : 'sup', {}, part.slice(1)) : part);
  const picture = make('img', {draggable: false, width: spec.width, height: spec.height});
  const words = make('figcaption', {});
  const said = make('p', {className: 'said', ariaLive: 'polite'});
  const error = make('p', {className: 'error', role: 'alert'});
  const wait = make('p', {className: 'wait'});

  const inputs = spec.controls.map(control => {
    if (control.menu) return make('select', {}, ...control.values.map(
      (word, i) => make('option', {value: i, selected: i === control.start}, word)));
    return make('input', {type: 'range', min: 0, max: control.values.length - 1, value: control.start});
  });
  const values = spec.controls.map(() => make('span', {className: 'value', ariaHidden: 'true'}));
  const rows = spec.controls.map((control, i) => {
    const offered = control.values.length > 1, id = 'explorer-' + Math.random().toString(36).slice(2);
    inputs[i].id = id;
    return make('div', {className: 'control'},
      make(offered ? 'label' : 'span', offered ? {htmlFor: id} : {}, ...typeset(control.label)),
      make('span', {className: 'setting'}, ...offered ? [inputs[i], values[i]] : [control.values[0]]));
  });
  const hint = make('p', {className: 'hint'}, ...typeset(spec.click
    ? `Click or drag in the ${spec.panels > 1 ? 'first panel' : 'picture'} to set `
      + spec.click.map(i => spec.controls[i].label).join(' and ') + '.' : ''));

  // A page's frames hold only what differs from its base. They are joined at their own size: scaled one by one, rims show.
  const loaded = async src => {
    const image = make('img', {src});
    await image.decode();
    return image;
  };
  const base = spec.base && loaded(spec.base);
  async function whole(frame) {
    if (!base || frame.error) return frame;
    const layers = [await base, await loaded(frame.src)], {naturalWidth: width, naturalHeight: height} = layers[0];
    const canvas = make('canvas', {width, height}), context = canvas.getContext('2d');
    for (const layer of layers) context.drawImage(layer, 0, 0);
    return {...frame, src: canvas.toDataURL()};
  }

  // Frames by their indices, as promises: what was shown or asked ahead comes without the kernel.
  const frames = new Map();
  function get(at) {
    const key = at.join();
    if (!frames.has(key)) frames.set(key, ask(at).then(whole).then(frame => {
      if (frame.error) frames.delete(key);
      return frame;
    }));
    if (frames.size > 150) {
      const [oldest, gone] = frames.entries().next().value;
      frames.delete(oldest);
      gone.then(frame => URL.revokeObjectURL(frame.src));
    }
    return frames.get(key);
  }

  let at = [], busy = false, ahead, saying, spots;
  async function show(asked) {
    const late = text => { root.classList.add('late'); wait.textContent = text };
    const timers = [
      setTimeout(late, 200, 'Computing: the picture shows earlier values.'),
      setTimeout(late, 8000, 'No answer yet: the picture shows earlier values. '
        + 'If the kernel was restarted, run the cell again.')];
    const frame = await get(asked);
    timers.forEach(clearTimeout);
    root.classList.remove('late');
    wait.textContent = '';
    picture.hidden = !!frame.error;
    error.textContent = frame.error || '';
    picture.alt = frame.text || '';
    words.replaceChildren(...typeset(picture.alt));
    spots = frame.spots;
    if (frame.src) {
      picture.src = frame.src;
      await picture.decode().catch(() => {});
    }
  }
  async function move() {
    const before = at;
    at = inputs.map(input => +input.value);
    at.forEach((k, i) => {
      const {menu, values: texts} = spec.controls[i];
      values[i].textContent = menu ? '' : texts[k];
      if (!menu) inputs[i].ariaValueText = texts[k];
    });
    clearTimeout(ahead);
    if (!busy) {                            // one frame under way, never a queue: only the newest values count
      busy = true;
      for (let asked; asked !== at;) await show(asked = at);
      busy = false;
      clearTimeout(saying);                 // a screen reader hears the place where the reader rests
      saying = setTimeout(() => said.textContent = picture.alt, 500);
    }
    const step = at.map((k, i) => k - (before[i] ?? k)), next = at.map((k, i) => k + step[i]);
    const single = Math.hypot(...step) === 1 && next.every((k, i) => spec.controls[i].values[k] !== undefined);
    if (single) ahead = setTimeout(() => busy || get(next), 60);   // the reader will likely go on the same way
  }

  // A click in the first panel takes the two nearest values; the kernel says where in the picture each value lies.
  function place(event) {
    const box = picture.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }
  function inside([x, y]) {
    const [left, top, right, bottom] = spots?.box ?? [1, 1, 0, 0];
    return left <= x && x <= right && top <= y && y <= bottom;
  }
  const nearest = (places, to) =>
    places.reduce((best, p, i) => Math.abs(p - to) < Math.abs(places[best] - to) ? i : best, 0);
  function choose(event) {
    const [x, y] = place(event);
    if (!inside([x, y])) return;
    const chosen = [nearest(spots.x, x), nearest(spots.y, y)];
    if (chosen.every((k, i) => +inputs[spec.click[i]].value === k)) return;
    chosen.forEach((k, i) => inputs[spec.click[i]].value = k);
    move();
  }
  if (spec.click) {
    picture.addEventListener('click', choose);
    picture.addEventListener('pointermove', event => {
      picture.classList.toggle('aim', inside(place(event)));
      if (event.buttons === 1 && event.pointerType === 'mouse') choose(event);
    });
  }

  for (const input of inputs) {
    input.setAttribute('data-lm-suppress-shortcuts', '');   // else JupyterLab takes arrows and letters
    input.addEventListener('input', move);
  }
  root.replaceChildren(make('div', {className: 'title'}, ...typeset(spec.title)), make('div', {className: 'controls'}, ...rows),
    hint, error, make('figure', {}, picture, wait, words), said);
  Object.assign(root, {role: 'group', ariaLabel: spec.title});
  root.style.maxWidth = spec.width + 38 + 'px';
  move();
}
