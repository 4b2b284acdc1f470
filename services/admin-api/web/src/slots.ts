/** Slots for event streams, shared by the pages of a browser. */

/** Over HTTP/1.1 the pages of a browser share six connections to a host; half of them stay free for requests. */
const SLOTS = 3;

/** Take a slot; returns the function that releases it, or null if other pages have all slots. */
export async function takeSlot(): Promise<(() => void) | null> {
  // Browsers have locks only in secure contexts: over HTTPS, and on localhost. Without locks, every page gets a slot.
  if (!("locks" in navigator)) return () => undefined;
  for (let number = 0; number < SLOTS; number++) {
    const release = await tryLock(`ingress-stream-${number}`);
    if (release !== null) return release;
  }
  return null;
}

/** A browser releases a lock once the promise of its callback settles, or the page closes. */
function tryLock(name: string): Promise<(() => void) | null> {
  return new Promise((resolve) => {
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (lock === null) {
        resolve(null);
        return undefined;
      }
      return new Promise<void>((done) => resolve(done));
    });
  });
}
