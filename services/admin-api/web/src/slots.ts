/** Which pages of a browser may hold an event stream. */

/** Over HTTP/1.1 a browser has six connections to a host, shared by all of its pages: half of them stay for requests. */
const SLOTS = 3;

/** Interval at which a lease is renewed, and the time after which the lease of a closed page ends. */
const RENEW_MILLISECONDS = 2_000;
const LEASE_MILLISECONDS = 7_000;
/** After this long the last page that wrote a lease at the same moment can be distinguished from the others. */
const SETTLE_MILLISECONDS = 100;

/** The way to give the slot back; null while other pages have all of them. Pages that cannot know of each other take one. */
export async function takeSlot(): Promise<(() => void) | null> {
  for (let number = 0; number < SLOTS; number++) {
    const name = `ingress-stream-${number}`;
    // Locks are there in secure contexts only: over HTTPS, and on this machine.
    const release = await ("locks" in navigator ? tryLock(name) : tryLease(name));
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

/** An entry in the storage that all pages share: who has the slot, and until when. */
async function tryLease(name: string): Promise<(() => void) | null> {
  const own = Math.random().toString(36).slice(2);
  try {
    if (holder(name) !== null) return null;
    renew(name, own);
    await new Promise((done) => setTimeout(done, SETTLE_MILLISECONDS));
    if (holder(name) !== own) return null;
  } catch {
    // Without a storage pages cannot know of each other.
    return () => undefined;
  }
  const renewing = setInterval(() => {
    // A page that slept may have lost it to another one.
    if ([null, own].includes(holder(name))) renew(name, own);
  }, RENEW_MILLISECONDS);
  const release = (): void => {
    clearInterval(renewing);
    removeEventListener("pagehide", release);
    if (holder(name) === own) localStorage.removeItem(name);
  };
  addEventListener("pagehide", release);
  return release;
}

function renew(name: string, own: string): void {
  localStorage.setItem(name, `${own} ${Date.now() + LEASE_MILLISECONDS}`);
}

function holder(name: string): string | null {
  const [own, until] = (localStorage.getItem(name) ?? "").split(" ");
  const left = Number(until) - Date.now();
  return own !== undefined && left > 0 && left <= LEASE_MILLISECONDS ? own : null;
}
