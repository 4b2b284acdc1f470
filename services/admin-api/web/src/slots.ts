/** Which pages of a browser may hold an event stream. */

/** Over HTTP/1.1 a browser has six connections to a host, shared by all of its pages: half of them stay for requests. */
const SLOTS = 3;

/** The way to give the slot back; null while other pages have all of them. Pages that cannot know of each other take one. */
export async function takeSlot(): Promise<(() => void) | null> {
  // Locks are there in secure contexts only: over HTTPS, and on this machine.
  if (!("locks" in navigator)) return () => undefined;
  for (let number = 0; number < SLOTS; number++) {
    const release = await tryLock(`ingress-stream-${number}`);
    if (release !== null) return release;
  }
  return null;
}

/** A lock is held until the promise that its callback returns is settled, or the page is gone. */
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
