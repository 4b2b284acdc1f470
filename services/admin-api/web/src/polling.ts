/** Periodic requests. */

/** Wait `milliseconds`, or until `signal`; if the page is hidden then, wait until it is visible. */
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

/** Send requests until `signal`: one at a time, `milliseconds` after the previous response. */
export async function poll(milliseconds: number, signal: AbortSignal, request: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await request();
    await pause(milliseconds, signal);
  }
}
