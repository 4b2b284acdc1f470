/** Questions that are asked again and again. */

/** Wait `milliseconds`, or until `signal`; while the page is hidden, until it is seen again. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
  if (document.hidden && !signal.aborted) {
    await new Promise<void>((done) => {
      document.addEventListener("visibilitychange", () => done(), { once: true });
      signal.addEventListener("abort", () => done(), { once: true });
    });
  }
}

/** Ask until `signal`: one question at a time, `milliseconds` between an answer and the next one. */
export async function poll(milliseconds: number, signal: AbortSignal, ask: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await ask();
    await pause(milliseconds, signal);
  }
}
