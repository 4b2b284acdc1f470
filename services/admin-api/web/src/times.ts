/** Times and durations for people; everything is UTC. */

/** Unix seconds of an RFC 3339 time. */
export function seconds(time: string): number {
  return Date.parse(time) / 1000;
}

/** RFC 3339 of unix seconds, whole ones. */
export function rfc3339(time: number): string {
  return new Date(Math.floor(time) * 1000).toISOString().replace(/\.\d+Z$/, "Z");
}

/** `2024-02-25T02:15:00Z` as `2024-02-25 02:15:00 UTC`, with all its digits. */
export function shown(time: string): string {
  return time.replace("T", " ").replace(/Z$/, " UTC");
}

/** The same without fractions of a second, where those carry no information. */
export function shownToSecond(time: string): string {
  return shown(time.replace(/\.\d+/, ""));
}

/** A duration such as `8 s`, `3 min`, `5.2 h`, `2.1 d`. */
export function duration(length: number): string {
  const size = Math.abs(length);
  if (size < 120) return `${round(length, size < 10 ? 1 : 0)} s`;
  if (size < 7_200) return `${round(length / 60, 0)} min`;
  if (size < 172_800) return `${round(length / 3_600, 1)} h`;
  return `${round(length / 86_400, 1)} d`;
}

function round(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}

const STEPS = [60, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000];

/** At most `count` round times between two, with their labels. */
export function ticks(from: number, to: number, count: number): { time: number; label: string }[] {
  const step = STEPS.find((size) => (to - from) / size <= count) ?? Math.ceil((to - from) / count / 2_592_000) * 2_592_000;
  const found = [];
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
    const text = rfc3339(time);
    found.push({ time, label: step < 86_400 && !text.endsWith("T00:00:00Z") ? text.slice(11, 16) : text.slice(5, 10) });
  }
  return found;
}
