/** Follows the newest candles of a symbol and timeframe: by server-sent events, else by polling. */

import { getCandles, streamUrl } from "./api.ts";
import type { Candle } from "./candle.ts";
import { parseExact } from "./exact.ts";
import { poll } from "./polling.ts";
import { takeSlot } from "./slots.ts";
import { SECONDS, type Timeframe } from "./timeframes.ts";

/** `live`: by events; `polling`: by requests, without events; `reconnecting`: neither works. */
export type LiveState = "live" | "polling" | "reconnecting";

export interface Listener {
  /** Candles were received; returns whether one was new. */
  candles(candles: readonly Candle[]): boolean;
  state(state: LiveState): void;
}

const POLL_MILLISECONDS = 2_000;
/** The interval of requests while events arrive: a half-open connection looks like a market without trades. */
const CHECK_MILLISECONDS = 10_000;
const RETRY_MILLISECONDS = 15_000;
const NEWEST = 10;
/** Number of candles to request after a `reset`, which may follow a long interruption. */
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

  /** A browser has few connections to a host, so a hidden page closes its stream. */
  readonly #seen = (): void => {
    if (document.hidden) this.#disconnect();
    else void this.#connect();
  };

  async #connect(): Promise<void> {
    this.#disconnect();
    const attempt = this.#attempt;
    const release = await takeSlot();
    // Without a slot, poll until the next attempt.
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
      // Request once the candles from before the stream was open.
      this.#checkAt = 0;
      this.listener.state("live");
    });
    stream.addEventListener("candle", (event: MessageEvent<string>) => {
      this.#silentChecks = 0;
      this.#lastId = event.lastEventId;
      this.listener.candles([parseExact(event.data) as Candle]);
    });
    // The server cannot resend the candles that this page missed.
    stream.addEventListener("reset", () => {
      this.#missed = AFTER_RESET;
      this.#checkAt = 0;
    });
    stream.addEventListener("error", () => {
      this.#open = false;
      // The browser reconnects on its own unless the response was no event stream.
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
    // Before the request: a reset during it makes the next one due at once.
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
      // The state shows the failure; the next request follows.
      this.#missed = Math.max(this.#missed, missed);
      this.#checkAt = 0;
      if (!this.#stop.signal.aborted) this.listener.state("reconnecting");
    }
  }

  /** A stream that twice in a row lacked candles of the API is broken. */
  #judge(news: boolean): void {
    this.#silentChecks = news ? this.#silentChecks + 1 : 0;
    if (this.#silentChecks >= 2) this.#disconnect();
  }
}

/** Number of candles to request `since` seconds after the last request: a page may have been hidden for hours. */
export function needed(since: number, step: number): number {
  return Math.min(NEWEST + Math.ceil(since / step), MOST);
}
