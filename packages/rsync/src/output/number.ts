/**
 * How numbers are written, by how often -h was given: 0 plain (--no-h), 1 digits in threes (the default), 2 units of
 * 1000 (-h), 3 and more units of 1024 (-hh).
 */
export type Human = number

const UNITS = ['', 'K', 'M', 'G', 'T', 'P']

export function bigNumber(value: number, human: Human): string {
  if (human > 1 && Math.abs(value) >= baseOf(human)) return withUnit(value, human, 2)
  return human === 0 ? String(value) : inThrees(String(value))
}

export function bigDecimal(value: number, human: Human, digits: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? '-nan' : 'inf' // as glibc on amd64 has it
  if (human > 1 && Math.abs(value) >= baseOf(human)) return withUnit(value, human, digits)
  const text = fixed(value, digits)
  if (human === 0 || Math.abs(value) < 1000) return text
  // The stock one groups the digits before the point as they were before rounding: 1999.999 is 1,999.00.
  return inThrees(String(Math.trunc(value))) + text.slice(text.indexOf('.'))
}

const baseOf = (human: Human) => (human === 2 ? 1000 : 1024)

const inThrees = (digits: string) => digits.replace(/(?<=\d)(?=(\d{3})+$)/g, ',')

function withUnit(value: number, human: Human, digits: number): string {
  const base = baseOf(human)
  let power = 0
  while (power < UNITS.length - 1 && Math.abs(value) >= base ** (power + 1)) power++
  return fixed(value / base ** power, digits) + UNITS[power]
}

/** printf("%.*f"): as toFixed(), but a number exactly between two goes to the even one. */
export function fixed(value: number, digits: number): string {
  const between = value * 2 ** (digits + 1)
  if (!Number.isInteger(between) || between % 2 === 0) return value.toFixed(digits)
  const even = 2 * Math.round((value * 10 ** digits) / 2)
  return (even / 10 ** digits).toFixed(digits)
}
