// Work under way is done once and shared by all who ask for it meanwhile. Nothing is kept once it has ended: a failure
// reaches those who waited, and the next to ask tries anew.
export function createSingleFlight<Result>() {
  const flights = new Map<string, Promise<Result>>();
  return {
    /** The work under way by that name, if there is any. */
    under: (name: string): Promise<Result> | undefined => flights.get(name),
    run(name: string, work: () => Promise<Result>): Promise<Result> {
      const under = flights.get(name);
      if (under !== undefined) return under;
      const flight = work().finally(() => flights.delete(name));
      flights.set(name, flight);
      return flight;
    },
  };
}
