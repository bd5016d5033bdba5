// A clock that stands still between turns, put in front of every script of a task's page: its timers, its animations and
// its calendar then depend on turns and the seed, not on how long a model takes to answer.
(() => {
  const RealDate = Date, start = top.agentgymStart ?? 1577880000000;
  let now = start, last = 0;
  const timers = new Map();

  globalThis.Date = class Date extends RealDate {
    constructor(...given) { given.length ? super(...given) : super(now); }
    static now() { return now; }
  };
  performance.now = () => now - start;

  function add(work, delay, given, every) {
    timers.set(++last, { work, due: now + Math.max(every === null ? 0 : 1, Number(delay) || 0), given, every });
    return last;
  }
  globalThis.setTimeout = (work, delay, ...given) => add(work, delay, given, null);
  globalThis.setInterval = (work, delay, ...given) => add(work, delay, given, Math.max(1, Number(delay) || 0));
  globalThis.requestAnimationFrame = work => add(() => work(now - start), 16, [], null);
  globalThis.clearTimeout = globalThis.clearInterval = globalThis.cancelAnimationFrame = number => { timers.delete(number); };

  // Whoever waits for this page must see that it is being left already.
  globalThis.agentgymLeaving = false;
  globalThis.navigation?.addEventListener('navigate', event => {
    if (!event.hashChange && event.downloadRequest === null && !event.destination.sameDocument) globalThis.agentgymLeaving = true;
  });
  globalThis.navigation?.addEventListener('navigateerror', () => { globalThis.agentgymLeaving = false; });

  globalThis.agentgymAdvance = span => {
    const end = now + span;
    for (let left = 20000; left > 0; left--) {
      let first = 0;
      for (const [number, timer] of timers) if (timer.due <= end && (!first || timer.due < timers.get(first).due)) first = number;
      if (!first) break;
      const timer = timers.get(first);
      now = Math.max(now, timer.due);
      if (timer.every === null) timers.delete(first);
      else timer.due = now + timer.every;
      try { typeof timer.work === 'function' ? timer.work(...timer.given) : (0, eval)(timer.work); } catch (error) { console.error(error); }
    }
    now = end;
  };
})();
