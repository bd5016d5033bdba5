// Reads a page for an agent and finds again what the agent names. Runs in a world apart, or in a page of our own.
// Every element that was shown keeps its number as long as its document lives.
globalThis.agentgym ??= (() => {
  let numbers = new WeakMap(), elements = new Map(), next = 1, pending = 0;

  const SILENT = new Set(['SCRIPT', 'STYLE', 'NOSCRIPT', 'TEMPLATE', 'HEAD', 'META', 'LINK', 'OPTION', 'OPTGROUP', 'DATALIST', 'BR', 'HR', 'WBR']);
  const ROLES = {
    A: 'link', BUTTON: 'button', SELECT: 'combobox', TEXTAREA: 'textbox', IMG: 'image', H1: 'heading', H2: 'heading', H3: 'heading',
    H4: 'heading', H5: 'heading', H6: 'heading', UL: 'list', OL: 'list', LI: 'listitem', TABLE: 'table', TR: 'row', TD: 'cell',
    TH: 'columnheader', NAV: 'navigation', MAIN: 'main', FORM: 'form', DIALOG: 'dialog', PROGRESS: 'progressbar', METER: 'meter',
    SUMMARY: 'button', VIDEO: 'video', AUDIO: 'audio', CANVAS: 'canvas', ARTICLE: 'article', ASIDE: 'complementary', P: 'paragraph',
    HEADER: 'banner', FOOTER: 'contentinfo', LABEL: 'label', IFRAME: 'frame', svg: 'drawing', circle: 'circle', rect: 'rectangle',
    polygon: 'polygon', ellipse: 'ellipse', line: 'line', path: 'path', polyline: 'polyline', text: 'text', tspan: 'text',
  };
  const INPUTS = {
    checkbox: 'checkbox', radio: 'radio', range: 'slider', number: 'spinbutton', search: 'searchbox', button: 'button', submit: 'button',
    reset: 'button', image: 'button', file: 'file', color: 'color', date: 'date', time: 'time', month: 'month', week: 'week',
    'datetime-local': 'datetime',
  };
  const NAMED_BY_CONTENT = new Set(['link', 'button', 'heading', 'option', 'tab', 'menuitem', 'checkbox', 'radio', 'switch', 'treeitem', 'gridcell', 'tooltip', 'text', 'cell', 'columnheader', 'paragraph', 'label', 'listitem']);
  const TYPED = new Set(['text', 'search', 'email', 'url', 'tel', 'password', 'number', '']);
  const GRAPHIC = new Set(['circle', 'rectangle', 'polygon', 'ellipse', 'line', 'path', 'polyline']);

  globalThis.navigation?.addEventListener('navigate', event => {
    if (!event.hashChange && event.downloadRequest === null && !event.destination.sameDocument) pending = performance.now();
  });
  globalThis.navigation?.addEventListener('navigateerror', () => { pending = 0; });
  // A form's navigation begins in a later task than the click; whatever asks in between would see the old page.
  globalThis.addEventListener('submit', event => {
    const leaves = ['', '_self', '_top', '_parent'].includes(event.submitter?.formTarget || event.target.target) && event.target.method !== 'dialog';
    if (!leaves || event.defaultPrevented || pending) return;
    pending = performance.now();
    setTimeout(() => { if (event.defaultPrevented) pending = 0; });
  });

  const clean = (text, cap = 400) => {
    text = String(text ?? '').replace(/\s+/g, ' ').trim();
    return text.length > cap ? text.slice(0, cap) + '…' : text;
  };
  const quote = text => JSON.stringify(clean(text));

  function numberOf(element) {
    let number = numbers.get(element);
    if (number === undefined) {
      number = next++;
      numbers.set(element, number);
      elements.set(number, new WeakRef(element));
    }
    return number;
  }

  function roleOf(element) {
    const said = element.getAttribute('role');
    if (said && said !== 'presentation' && said !== 'none') return clean(said, 30).split(' ')[0].replace(/[^a-z-]/gi, '');
    if (element.tagName === 'INPUT') return INPUTS[element.type] ?? 'textbox';
    if (element.tagName === 'SELECT' && (element.multiple || element.size > 1)) return 'listbox';
    if (element.tagName === 'A' && !element.hasAttribute('href')) return '';
    if (element.isContentEditable && !element.parentElement?.isContentEditable) return 'textbox';
    return ROLES[element.tagName] ?? '';
  }

  function nameOf(element, role) {
    const ids = element.getAttribute('aria-labelledby');
    if (ids) {
      const words = ids.split(/\s+/).map(id => element.getRootNode().getElementById?.(id)?.textContent ?? '').join(' ');
      if (clean(words)) return words;
    }
    for (const given of [element.getAttribute('aria-label'), element.getAttribute('alt')]) if (clean(given)) return given;
    if (element.tagName === 'INPUT' && ['button', 'submit', 'reset'].includes(element.type)) return element.value || element.type;
    if (element.labels?.length) {
      const words = [...element.labels].map(label => label.textContent).join(' ');
      if (clean(words)) return words;
    }
    if (NAMED_BY_CONTENT.has(role) || role === '') {
      const words = element.innerText ?? element.textContent;
      if (clean(words)) return words;
    }
    return element.getAttribute('title') || element.getAttribute('placeholder') || '';
  }

  function stateOf(element, role) {
    const state = [];
    const view = element.ownerDocument.defaultView;
    if (element.tagName === 'INPUT' && ['checkbox', 'radio'].includes(element.type)) state.push(element.checked ? 'checked' : 'unchecked');
    else if (element.getAttribute('aria-checked')) state.push(element.getAttribute('aria-checked') === 'true' ? 'checked' : 'unchecked');
    else if (element instanceof view.HTMLSelectElement) {
      const options = [...element.options];
      const shown = options.slice(0, 60).map(option => quote(option.label) + (option.selected ? '*' : ''));
      state.push(`options ${shown.join(' ')}${options.length > 60 ? ` and ${options.length - 60} more` : ''}`);
    } else if ((element.tagName === 'INPUT' && !['button', 'submit', 'reset', 'image'].includes(element.type)) || element.tagName === 'TEXTAREA') {
      state.push(`value ${quote(element.type === 'password' ? '•'.repeat(element.value.length) : element.value)}`);
    }
    if (element.disabled || element.getAttribute('aria-disabled') === 'true') state.push('disabled');
    if (element.readOnly) state.push('readonly');
    if (element.ownerDocument.activeElement === element && element !== element.ownerDocument.body && role !== 'frame') state.push('focused');
    for (const flag of ['expanded', 'selected', 'pressed']) {
      const value = element.getAttribute(`aria-${flag}`);
      if (value === 'true') state.push(flag);
      else if (value === 'false' && flag === 'expanded') state.push('collapsed');
    }
    return state;
  }

  // What a thing without words looks like: an agent that sees nothing else has to tell it from its neighbours.
  function lookOf(element, role) {
    const style = element.ownerDocument.defaultView.getComputedStyle(element);
    const box = element.getBoundingClientRect(), look = [];
    const kind = clean(element.getAttribute('class'), 60);
    if (kind) look.push(`class ${quote(kind)}`);
    if (GRAPHIC.has(role)) look.push(`fill ${style.fill}`);
    else if (style.backgroundColor !== 'rgba(0, 0, 0, 0)') look.push(`colour ${style.backgroundColor}`);
    look.push(`at ${Math.round(box.x)},${Math.round(box.y)} size ${Math.round(box.width)}x${Math.round(box.height)}`);
    return look;
  }

  class Reading {
    constructor(wish) {
      this.wish = wish;
      this.lines = [];
      this.chars = this.nodes = 0;
      this.truncated = false;
    }

    get full() { return this.truncated; }

    add(depth, text) {
      this.chars += text.length + 2 * depth + 1;
      if (this.chars > this.wish.chars) { this.truncated = true; return; }
      this.lines.push('  '.repeat(Math.min(depth, 30)) + text);
    }

    count() {
      if (++this.nodes > this.wish.nodes) this.truncated = true;
      return !this.truncated;
    }

    children(element) {
      if (element.tagName === 'IFRAME' || element.tagName === 'FRAME') {
        let inner = null;
        try { inner = element.contentDocument?.body ?? null; } catch { inner = null; }
        return inner ? [inner] : [];
      }
      if (element.shadowRoot) return element.shadowRoot.childNodes;
      if (element.tagName === 'SLOT') { const given = element.assignedNodes(); return given.length ? given : element.childNodes; }
      return element.childNodes;
    }

    visit(node, depth) {
      if (this.full || !this.count()) return;
      if (node.nodeType === 3) {
        const words = clean(node.data);
        if (words) this.add(depth, `text ${JSON.stringify(words)}`);
        return;
      }
      if (node.nodeType !== 1 || SILENT.has(node.tagName) || this.wish.skip?.includes(node.id)) return;
      if (!node.checkVisibility()) return;
      if (this.wish.mode === 'dom') this.visitTag(node, depth);
      else this.visitRole(node, depth);
    }

    visitAll(element, depth) {
      for (const child of this.children(element)) { if (this.full) return; this.visit(child, depth); }
    }

    visitTag(element, depth) {
      const parts = [element.tagName.toLowerCase()];
      for (const name of ['id', 'class', 'type', 'name', 'href', 'placeholder', 'title', 'alt', 'role', 'for']) {
        const value = element.getAttribute(name);
        if (value) parts.push(`${name}=${JSON.stringify(clean(value, 100))}`);
      }
      const role = roleOf(element);
      const state = stateOf(element, role);
      const words = [...element.childNodes].every(child => child.nodeType === 3) ? clean(element.textContent) : '';
      const look = words || element.childElementCount ? [] : lookOf(element, role).slice(-1);
      const notes = [...state, ...look];
      this.add(depth, `[${numberOf(element)}] <${parts.join(' ')}>${words ? ' ' + JSON.stringify(words) : ''}${notes.length ? ` (${notes.join(', ')})` : ''}`);
      if (!words) this.visitAll(element, depth + 1);
    }

    visitRole(element, depth) {
      if (element.getAttribute('aria-hidden') === 'true') return;
      const role = roleOf(element);
      const visible = element.checkVisibility({ visibilityProperty: true });
      const inner = [...this.children(element)].filter(child => child.nodeType === 1 ? !SILENT.has(child.tagName) : child.nodeType === 3 && clean(child.data));
      const leaf = inner.every(child => child.nodeType === 3);
      if (!visible) { if (!leaf) this.visitAll(element, depth); return; }
      const box = element.getBoundingClientRect();
      const handled = element.hasAttribute('onclick') || element.hasAttribute('tabindex') || element.draggable && element.tagName !== 'A' && element.tagName !== 'IMG';
      if (!role && !leaf && !handled) return this.visitAll(element, depth);
      if (leaf && !inner.length && !role && (box.width === 0 || box.height === 0)) return;
      const name = leaf || NAMED_BY_CONTENT.has(role) && this.plain(element) ? clean(nameOf(element, role)) : clean(element.getAttribute('aria-label') ?? element.getAttribute('title'));
      const notes = stateOf(element, role);
      if (!name && leaf && !notes.some(note => /^(value|options) /.test(note))) notes.push(...lookOf(element, role));
      this.add(depth, `[${numberOf(element)}] ${role || (name ? 'text' : 'box')}${name ? ' ' + JSON.stringify(name) : ''}${notes.length ? ` (${notes.join(', ')})` : ''}`);
      if (!leaf && !(NAMED_BY_CONTENT.has(role) && name && this.plain(element))) this.visitAll(element, depth + 1);
    }

    // Nothing in it that an agent could act on by itself.
    plain(element) {
      return !element.querySelector('a[href],button,input,select,textarea,[role],[onclick],[tabindex],svg,img,table,ul,ol,li,p,div,span[class],span[id]');
    }
  }

  function read(wish) {
    const root = wish.root ?? document.body;
    if (pending && performance.now() - pending < 5000) return { pending: true };
    if (!root || document.readyState === 'loading') return { pending: true };
    const reading = new Reading(wish);
    reading.visitAll(root, 0);
    return { url: location.href, title: clean(document.title, 300), text: reading.lines.join('\n'), truncated: reading.truncated };
  }

  function find(number) {
    const element = elements.get(number)?.deref();
    if (!element) throw new Problem(`there is no element ${number} on this page`);
    if (!element.isConnected || !element.ownerDocument.defaultView) throw new Problem(`element ${number} is no longer on the page`);
    return element;
  }

  class Problem extends Error {}

  // Where the frame of an element begins, in the viewport of the tab.
  function originOf(element) {
    let x = 0, y = 0, frame = element.ownerDocument.defaultView.frameElement;
    while (frame) {
      const box = frame.getBoundingClientRect();
      x += box.x + frame.clientLeft;
      y += box.y + frame.clientTop;
      frame = frame.ownerDocument.defaultView.frameElement;
    }
    return [x, y];
  }

  function hitAt(element, x, y) {
    let hit = element.getRootNode().elementFromPoint?.(x, y) ?? element.ownerDocument.elementFromPoint(x, y);
    while (hit?.shadowRoot) {
      const deeper = hit.shadowRoot.elementFromPoint(x, y);
      if (!deeper || deeper === hit) break;
      hit = deeper;
    }
    return hit;
  }

  // A point of the element that nothing else covers, scrolled into view.
  function locate(number) {
    const element = find(number);
    if (element.tagName === 'OPTION') throw new Problem(`element ${number} is an entry of a list: use select`);
    element.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: 'instant' });
    const rects = [...element.getClientRects()].filter(rect => rect.width > 0 && rect.height > 0);
    if (!rects.length) throw new Problem(`element ${number} is not visible`);
    const [left, top] = originOf(element);
    let cover = null, above = null;
    for (const rect of rects.slice(0, 3)) {
      for (const [down, right] of [[.5, .5], [.5, .25], [.5, .75], [.25, .5], [.75, .5], [.25, .25], [.25, .75], [.75, .25], [.75, .75], [.05, .5], [.95, .5], [.5, .05], [.5, .95]]) {
        const x = rect.x + rect.width * right, y = rect.y + rect.height * down;
        const hit = hitAt(element, x, y);
        if (!hit) continue;
        const at = { x: Math.round((x + left) * 100) / 100, y: Math.round((y + top) * 100) / 100 };
        if (hit === element || element.contains(hit) || hit.control === element || hit.closest?.('label')?.control === element) return at;
        if (hit.contains(element)) above ??= at;
        else cover ??= hit;
      }
    }
    if (above && !cover) return above;
    if (cover) throw new Problem(`element ${number} is covered by element ${numberOf(cover)}`);
    throw new Problem(`element ${number} is outside of the page's visible part`);
  }

  function announce(element) {
    element.dispatchEvent(new Event('input', { bubbles: true, composed: true }));
    element.dispatchEvent(new Event('change', { bubbles: true }));
  }

  // Makes ready for keys: what is typed next takes the place of what was there. Fields that take no words are set.
  function prepare({ number, text }) {
    const named = number === null ? deepFocus() : find(number), element = named.control ?? named;
    const view = element.ownerDocument.defaultView;
    if (element instanceof view.HTMLInputElement && !TYPED.has(element.type)) {
      if (['checkbox', 'radio', 'button', 'submit', 'reset', 'image', 'file'].includes(element.type)) throw new Problem(`element ${number} takes no text`);
      const set = Object.getOwnPropertyDescriptor(view.HTMLInputElement.prototype, 'value').set;
      element.focus();
      set.call(element, text);
      if (element.value !== text) throw new Problem(`element ${number} is a field of type ${element.type} and took the value ${quote(element.value)}`);
      announce(element);
      return { done: true };
    }
    const field = element instanceof view.HTMLInputElement || element instanceof view.HTMLTextAreaElement;
    if (!field && !element.isContentEditable) throw new Problem(`element ${number} is no text field`);
    if (element.disabled || element.readOnly) throw new Problem(`element ${number} can't be changed`);
    if (number !== null) {
      element.focus();
      if (field) element.select();
      else view.getSelection().selectAllChildren(element);
    }
    if (text.length > 200) return { done: element.ownerDocument.execCommand('insertText', false, text) };
    return { done: false };
  }

  function deepFocus() {
    let active = document.activeElement;
    while (active && (active.contentDocument?.activeElement || active.shadowRoot?.activeElement)) active = active.contentDocument?.activeElement ?? active.shadowRoot.activeElement;
    if (!active || active === active.ownerDocument.body) throw new Problem('no element has the focus');
    return active;
  }

  function choose({ number, label }) {
    const element = find(number);
    if (element.tagName !== 'SELECT') throw new Problem(`element ${number} is no list to select from`);
    if (element.disabled) throw new Problem(`element ${number} can't be changed`);
    const option = [...element.options].find(one => clean(one.label) === clean(label)) ?? [...element.options].find(one => one.value === label);
    if (!option) throw new Problem(`element ${number} has no entry ${quote(label)}`);
    if (option.disabled) throw new Problem(`the entry ${quote(label)} can't be selected`);
    element.focus();
    if (element.multiple) option.selected = !option.selected;
    else element.value = option.value, option.selected = true;
    announce(element);
    const box = element.getBoundingClientRect(), [left, top] = originOf(element);
    return { x: box.x + box.width / 2 + left, y: box.y + box.height / 2 + top };
  }

  const verbs = { read, locate: ({ number }) => locate(number), prepare, choose };

  return {
    numberOf,
    forget() { numbers = new WeakMap(); elements = new Map(); next = 1; },
    ask({ verb, ...wish }) {
      try { return verbs[verb](wish); }
      catch (error) {
        if (error instanceof Problem) return { problem: error.message };
        throw error;
      }
    },
  };
})();
