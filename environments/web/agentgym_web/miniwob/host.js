// The page around a task's page. A frame that is made anew for each episode has a fresh world, as after a navigation, and
// its scripts come from the cache.
const host = (() => {
  const HERE = location.pathname.replace(/[^/]*$/, '');
  const texts = new Map();
  const SKIP = ['reward-display', 'sync-task-cover', 'click-canvas', 'query', 'query-wrap'];
  const sleep = span => new Promise(resolve => setTimeout(resolve, span));
  let frame = null;

  // Where the last episode left the mouse is no part of the next: a page feels it from its first move on.
  addEventListener('mousemove', () => { if (frame) frame.style.pointerEvents = ''; }, true);

  const task = () => frame.contentWindow;
  const shown = () => task().core.flightChildWindow?.() ?? task();

  function windows(view, found = []) {
    found.push(view);
    for (let i = 0; i < view.frames.length; i++) windows(view.frames[i], found);
    return found;
  }

  function advance(span) {
    for (const view of windows(task())) view.agentgymAdvance?.(span);
  }

  const changes = new MutationObserver(() => {});
  const frameDrawn = () => Promise.race([new Promise(resolve => requestAnimationFrame(resolve)), sleep(2000)]);

  // What an episode shows must not depend on how fast this machine is: pictures take no room until they are there, a page
  // that is being left can still be read, and what lies under the mouse since the page moved is told with the next frame.
  async function settle() {
    const end = performance.now() + 5000;
    if (windows(task()).length > 1) await sleep(0);  // a form is sent in a later task than its click
    while (performance.now() < end && !windows(task()).every(isSettled)) await sleep(2);
  }

  function hasChanged() {
    const shownBy = ({ target }) => (target.closest ? target : target.parentElement)?.closest('#reward-display');
    return windows(task()).length > 1 || changes.takeRecords().some(change => !shownBy(change));
  }

  function isSettled(view) {
    if (view.agentgymLeaving || view.document.readyState !== 'complete') return false;
    return [...view.document.images].every(image => image.complete);
  }

  function navigate(path) {
    frame.src = path;
    const loaded = new Promise(resolve => { frame.onload = resolve; });
    document.body.append(frame);
    return loaded;
  }

  // A page that is written needs no navigation, which takes the browser's processes longer than all else. It has our
  // address, from whose folder its own come.
  async function write(path) {
    if (!texts.has(path)) texts.set(path, await (await fetch(path)).text());
    document.body.append(frame);  // an empty document, at once
    const loaded = new Promise(resolve => { frame.onload = resolve; });
    const page = frame.contentDocument;
    page.open();
    page.write(texts.get(path));
    page.close();
    return loaded;
  }

  async function begin({ path, seed, mode, start, width, height }) {
    globalThis.agentgymStart = start;
    frame?.remove();
    agentgym.forget();
    localStorage.clear();
    sessionStorage.clear();
    frame = document.createElement('iframe');
    Object.assign(frame, { width, height });
    frame.style.pointerEvents = 'none';
    await (path.startsWith(HERE) ? write(path) : navigate(path));
    const page = task();
    if (!page.core) throw new Error(`${path} did not load`);
    changes.disconnect();
    changes.observe(page.document, { subtree: true, childList: true, attributes: true, characterData: true });
    page.focus();
    page.core.EPISODE_MAX_TIME = 1e8;
    page.Math.seedrandom(seed);
    page.core.setDataMode(mode);
    page.core.startEpisodeReal();
    const end = performance.now() + 8000;
    while (!page.WOB_TASK_READY && performance.now() < end) { await sleep(10); advance(50); }
    if (!page.WOB_TASK_READY) throw new Error(`${path} did not become ready`);
  }

  async function look({ span, ...wish }) {
    await settle();
    if (span) {
      await frameDrawn();
      changes.takeRecords();
      advance(span);
      await settle();
      if (hasChanged()) await frameDrawn();
    }
    const page = task(), utterance = page.core.getUtterance();
    const extra = {
      done: page.WOB_DONE_GLOBAL, raw: page.WOB_RAW_REWARD_GLOBAL, reason: String(page.WOB_REWARD_REASON ?? ''),
      utterance: utterance.utterance ?? utterance, fields: utterance.fields ?? {},
    };
    // A task may say with a colour or an icon what it wants; its words alone stand above the page anyway.
    const query = page.document.getElementById('query');
    const drawn = query && [...query.querySelectorAll('*')].some(element => !element.textContent.trim());
    const skip = drawn ? SKIP.filter(id => !id.startsWith('query')) : SKIP;
    const reading = agentgym.ask({ verb: 'read', root: shown().document.body, skip, ...wish });
    return { ...reading, url: '', title: '', extra };
  }

  // All that is on the page, shown or not, for the scripted experts.
  function inspect() {
    const page = shown(), nodes = [], [left, top] = page === task() ? [0, 0] : [page.frameElement.getBoundingClientRect().x, page.frameElement.getBoundingClientRect().y];
    const walk = (element, parent) => {
      if (SKIP.includes(element.id) && element.id !== 'query' || ['SCRIPT', 'STYLE'].includes(element.tagName)) return;
      const box = element.getBoundingClientRect(), style = page.getComputedStyle(element);
      const number = agentgym.numberOf(element);
      const attributes = {};
      for (const attribute of element.attributes) if (!attribute.name.startsWith('data-wob')) attributes[attribute.name] = attribute.value.slice(0, 300);
      nodes.push({
        number, parent, tag: element.tagName.toLowerCase(), attributes, text: element.textContent.replace(/\s+/g, ' ').trim().slice(0, 3000),
        own: [...element.childNodes].filter(child => child.nodeType === 3).map(child => child.data).join(' ').replace(/\s+/g, ' ').trim(),
        value: element.value === undefined ? '' : String(element.value), checked: Boolean(element.checked),
        visible: element.checkVisibility({ visibilityProperty: true }) && box.width > 0 && box.height > 0,
        box: [box.x + left, box.y + top, box.width, box.height], fill: style.fill, colour: style.backgroundColor, ink: style.color,
        focused: page.document.activeElement === element,
      });
      for (const child of element.children) walk(child, number);
    };
    walk(page.document.body, 0);
    return nodes;
  }

  return {
    begin: async argument => { await begin(argument); return look(argument.wish); },
    look, inspect,
    ask: async wish => { await settle(); return agentgym.ask(wish); },
  };
})();
