import type { Stage } from './support.js'

/** One line of the table. */
export interface Figure {
  what: string
  /** The measured value, readable. */
  value: string
  /** What issue 2 asks for; absent where the figure is there for comparison. */
  goal?: string
  met?: boolean
}

/** Measures on a stage of its own, and tells what it does meanwhile. */
export type Benchmark = (stage: Stage, tell: (progress: string) => void) => Promise<Figure[]>

/** A figure with an upper limit. */
export function atMost(what: string, value: number, limit: number, unit: string): Figure {
  return { what, value: `${round(value)} ${unit}`, goal: `≤ ${limit} ${unit}`, met: value <= limit }
}

export function atLeast(what: string, value: number, limit: number, unit: string): Figure {
  return { what, value: `${round(value)} ${unit}`, goal: `≥ ${limit} ${unit}`, met: value >= limit }
}

export function beside(what: string, value: number, unit: string): Figure {
  return { what, value: `${round(value)} ${unit}` }
}

/** The nearest-rank percentile, `share` from 0 to 1. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
}

export const median = (values: readonly number[]) => percentile(values, 0.5)

function round(value: number): string {
  if (value >= 10_000) return Math.round(value).toLocaleString('en')
  return value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)
}
