import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import type { AdminRoute } from './http.ts'

/** One value of a metric. */
export interface Sample {
  readonly value: number
  readonly labels?: Readonly<Record<string, string>>
}

/** One distribution. `counts[i]` is how many values were at most `bounds[i]` and over the bound before; the last has no bound. */
export interface HistogramSample {
  readonly bounds: readonly number[]
  readonly counts: readonly number[]
  readonly sum: number
  readonly labels?: Readonly<Record<string, string>>
}

export interface HistogramOptions {
  /** Full name, e.g. `isthmus_handshake_seconds`. */
  readonly name: string
  readonly help: string
  readonly collect: () => readonly HistogramSample[]
}

export interface MetricOptions {
  /** Full name, e.g. `isthmus_connections_total`; part of the product's surface. */
  readonly name: string
  readonly help: string
  readonly labels?: readonly string[]
  /** Reads the present values. Called at each scrape, so that nothing is counted twice and the hot path counts plain numbers. */
  readonly collect: () => readonly Sample[]
}

/** Metrics of one process. Values are read at the scrape; before it, `refresh` may fetch what they are read from. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #refresh: () => Promise<void>

  constructor(options: { readonly refresh?: () => Promise<void>; readonly processMetrics?: boolean } = {}) {
    this.#refresh = options.refresh ?? (async () => {})
    if (options.processMetrics ?? true) collectDefaultMetrics({ register: this.#registry })
  }

  gauge(options: MetricOptions): void {
    const gauge = new Gauge({
      name: options.name,
      help: options.help,
      labelNames: options.labels ?? [],
      registers: [],
    })
    this.#register(gauge, options, (sample) => gauge.set({ ...sample.labels }, sample.value))
  }

  /** Values must never fall while their source lives; a restart of the source resets them, which Prometheus expects. */
  counter(options: MetricOptions): void {
    const counter = new Counter({
      name: options.name,
      help: options.help,
      labelNames: options.labels ?? [],
      registers: [],
    })
    this.#register(counter, options, (sample) => counter.inc({ ...sample.labels }, sample.value))
  }

  /** Counted elsewhere, in plain integers; the text is made here. */
  histogram({ name, help, collect }: HistogramOptions): void {
    // What prom-client asks of a metric when it writes the text; its own Histogram can only observe.
    const metric = {
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      reset() {},
      get: async () => ({
        name,
        help,
        type: 'histogram',
        values: collect().flatMap((one) => rows(name, one)),
      }),
    }
    this.#registry.registerMetric(metric as unknown as Gauge)
  }

  /** The Prometheus text format. */
  async text(): Promise<string> {
    await this.#refresh()
    return this.#registry.metrics()
  }

  /** `{'/metrics': …}` for an AdminServer. */
  routes(): Record<string, AdminRoute> {
    return { '/metrics': async () => ({ body: await this.text(), type: this.#registry.contentType }) }
  }

  #register(metric: Counter | Gauge, options: MetricOptions, put: (sample: Sample) => void): void {
    // prom-client calls `collect` on the metric before it reads the values.
    Object.assign(metric, {
      collect() {
        metric.reset()
        for (const sample of options.collect()) put(sample)
      },
    })
    this.#registry.registerMetric(metric as Gauge)
  }
}

interface HistogramRow {
  readonly metricName: string
  readonly labels: Record<string, string | number>
  readonly value: number
}

function rows(name: string, { bounds, counts, sum, labels = {} }: HistogramSample): HistogramRow[] {
  let below = 0
  const buckets = [...bounds, '+Inf'].map((le, index): HistogramRow => {
    below += counts[index] ?? 0
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: below }
  })
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels: { ...labels }, value: sum },
    { metricName: `${name}_count`, labels: { ...labels }, value: below },
  ]
}
