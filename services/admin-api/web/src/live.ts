/** Follows the newest candles of a symbol and timeframe: by server-sent events, and by asking where those do not come. */

import { getCandles, streamUrl } from "./api.ts";
import type { Candle } from "./candle.ts";
import { parseExact } from "./exact.ts";
import { poll } from "./polling.ts";
import type { Timeframe } from "./timeframes.ts";

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

export class Live {
  readonly #stop = new AbortController();
  #stream: EventSource | null = null;
  #open = false;
  #silentChecks = 0;
  #retryAt = 0;
  #checkAt = 0;

  constructor(
    private readonly symbol: string,
    private readonly timeframe: Timeframe,
    private readonly listener: Listener,
  ) {
    document.addEventListener("visibilitychange", this.#seen);
    this.#connect();
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
    else this.#connect();
  };

  #connect(): void {
    this.#disconnect();
    const stream = new EventSource(streamUrl(this.symbol, this.timeframe));
    stream.addEventListener("open", () => {
      this.#open = true;
      this.#silentChecks = 0;
      // What happened before the stream was open is asked for once.
      this.#checkAt = 0;
      this.listener.state("live");
    });
    stream.addEventListener("candle", (event: MessageEvent<string>) => {
      this.#silentChecks = 0;
      this.listener.candles([parseExact(event.data) as Candle]);
    });
    // The server no longer knows what this reader has missed.
    stream.addEventListener("reset", () => (this.#checkAt = 0));
    stream.addEventListener("error", () => {
      this.#open = false;
      // The browser tries again by itself unless the answer was no stream at all.
      if (stream.readyState === EventSource.CLOSED) this.#disconnect();
    });
    this.#stream = stream;
  }

  #disconnect(): void {
    this.#stream?.close();
    this.#stream = null;
    this.#open = false;
    this.#retryAt = Date.now() + RETRY_MILLISECONDS;
  }

  async #look(): Promise<void> {
    if (this.#stream === null && Date.now() >= this.#retryAt) this.#connect();
    if (this.#open && Date.now() < this.#checkAt) return;
    const before = this.#open;
    try {
      const candles = await getCandles(this.symbol, this.timeframe, NEWEST, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      this.#checkAt = Date.now() + CHECK_MILLISECONDS;
      const news = this.listener.candles(candles);
      if (!this.#open) this.listener.state("polling");
      else if (before) this.#judge(news);
    } catch {
      // The state tells it; the next look follows.
      if (!this.#stop.signal.aborted) this.listener.state("reconnecting");
    }
  }

  /** A stream that has twice in a row told less than the API knows is broken. */
  #judge(news: boolean): void {
    this.#silentChecks = news ? this.#silentChecks + 1 : 0;
    if (this.#silentChecks >= 2) this.#disconnect();
  }
}
