/** Follows the newest candles of a symbol and timeframe: by server-sent events, and by asking where those do not come. */

import { getCandles, streamUrl } from "./api.ts";
import type { Candle } from "./candle.ts";
import { parseExact } from "./exact.ts";
import { poll } from "./polling.ts";
import { takeSlot } from "./slots.ts";
import { SECONDS, type Timeframe } from "./timeframes.ts";

/** `live`: events come; `polling`: they do not, the API is asked instead; `reconnecting`: neither works at the moment. */
export type LiveState = "live" | "polling" | "reconnecting";

export interface Listener {
  /** Candles that may be news; true if they were. */
  candles(candles: readonly Candle[]): boolean;
  state(state: LiveState): void;
}

const POLL_MILLISECONDS = 2_000;
/** While events come, the API is asked this often nevertheless: a half-open connection looks like a quiet market. */
const CHECK_MILLISECONDS = 10_000;
const RETRY_MILLISECONDS = 15_000;
const NEWEST = 10;
/** As many as may have been missed are asked for; of more than the API gives at once, the newest. */
const AFTER_RESET = 500;
const MOST = 5_000;

export class Live {
  readonly #stop = new AbortController();
  #stream: EventSource | null = null;
  #release: (() => void) | null = null;
  #attempt = 0;
  #open = false;
  #silentChecks = 0;
  #retryAt = 0;
  #checkAt = 0;
  #lookedAt = Date.now();
  #missed = 0;
  #lastId = "";

  constructor(
    private readonly symbol: string,
    private readonly timeframe: Timeframe,
    private readonly listener: Listener,
  ) {
    document.addEventListener("visibilitychange", this.#seen);
    void this.#connect();
    void poll(POLL_MILLISECONDS, this.#stop.signal, () => this.#look());
  }

  close(): void {
    this.#stop.abort();
    document.removeEventListener("visibilitychange", this.#seen);
    this.#disconnect();
  }

  /** A browser has few connections to a host, so a hidden page gives its own back. */
  readonly #seen = (): void => {
    if (document.hidden) this.#disconnect();
    else void this.#connect();
  };

  async #connect(): Promise<void> {
    this.#disconnect();
    const attempt = this.#attempt;
    const release = await takeSlot();
    // Without one the API is asked instead, until the next attempt.
    if (release === null) return;
    if (attempt !== this.#attempt || this.#stop.signal.aborted || document.hidden) {
      release();
      return;
    }
    this.#release = release;
    const stream = new EventSource(streamUrl(this.symbol, this.timeframe, this.#lastId));
    stream.addEventListener("open", () => {
      this.#open = true;
      this.#silentChecks = 0;
      // What happened before the stream was open is asked for once.
      this.#checkAt = 0;
      this.listener.state("live");
    });
    stream.addEventListener("candle", (event: MessageEvent<string>) => {
      this.#silentChecks = 0;
      this.#lastId = event.lastEventId;
      this.listener.candles([parseExact(event.data) as Candle]);
    });
    // The server no longer knows what this reader has missed.
    stream.addEventListener("reset", () => {
      this.#missed = AFTER_RESET;
      this.#checkAt = 0;
    });
    stream.addEventListener("error", () => {
      this.#open = false;
      // The browser tries again by itself unless the answer was no stream at all.
      if (stream.readyState === EventSource.CLOSED) this.#disconnect();
    });
    this.#stream = stream;
  }

  #disconnect(): void {
    this.#attempt++;
    this.#stream?.close();
    this.#stream = null;
    this.#release?.();
    this.#release = null;
    this.#open = false;
    this.#retryAt = Date.now() + RETRY_MILLISECONDS;
  }

  async #look(): Promise<void> {
    if (this.#stream === null && Date.now() >= this.#retryAt) void this.#connect();
    if (this.#open && Date.now() < this.#checkAt) return;
    const before = this.#open;
    const began = Date.now();
    const missed = Math.max(this.#missed, needed((began - this.#lookedAt) / 1000, SECONDS[this.timeframe]));
    // A reset may come while the answer is on its way; then the next look is due at once.
    this.#missed = 0;
    this.#checkAt = began + CHECK_MILLISECONDS;
    try {
      const candles = await getCandles(this.symbol, this.timeframe, missed, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      this.#lookedAt = began;
      const news = this.listener.candles(candles);
      if (!this.#open) this.listener.state("polling");
      else if (before) this.#judge(news);
    } catch {
      // The state shows it; the next request follows.
      this.#missed = Math.max(this.#missed, missed);
      this.#checkAt = 0;
      if (!this.#stop.signal.aborted) this.listener.state("reconnecting");
    }
  }

  /** A stream that has twice in a row delivered less than the API knows is broken. */
  #judge(news: boolean): void {
    this.#silentChecks = news ? this.#silentChecks + 1 : 0;
    if (this.#silentChecks >= 2) this.#disconnect();
  }
}

/** How many of the newest candles to ask for `since` seconds after the last time: a page may have been hidden for hours. */
export function needed(since: number, step: number): number {
  return Math.min(NEWEST + Math.ceil(since / step), MOST);
}
