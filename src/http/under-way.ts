// The requests whose answers have not ended. They stand in an array whose places are taken anew, not in a Map or a Set:
// with thousands coming and going, what a Set had for its table was thrown away all the time, and one that was old by
// then kept alive every request after it (recent.ts says why).
import type { RequestState } from "./request-state.ts";

export function createUnderWay() {
  const places: (RequestState | null)[] = [];
  const free: number[] = [];

  return {
    enter(state: RequestState): void {
      state.place = free.pop() ?? places.length;
      places[state.place] = state;
    },
    /** Whether it was there until now. */
    leave(state: RequestState): boolean {
      const { place } = state;
      if (place === null) return false;
      state.place = null;
      places[place] = null;
      free.push(place);
      return true;
    },
    size: (): number => places.length - free.length,
    all: (): RequestState[] => places.filter((state) => state !== null),
  };
}
