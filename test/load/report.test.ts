import t from 'tap'
import type { PhaseCounts } from '../../src/load/flow-recorder.ts'
import { Histogram } from '../../src/load/histogram.ts'
import { type LoadResult, loadResult } from '../../src/load/load-result.ts'
import type { LoadPlan } from '../../src/load/plan.ts'
import type { ProcessLoad } from '../../src/load/process-load.ts'
import { htmlReport } from '../../src/load/report/html-report.ts'
import { resultJson } from '../../src/load/report/result-json.ts'
import { get } from '../../src/load/run.ts'
import { verdictOf } from '../../src/load/verdict.ts'
import { xmlProblem } from './xml-problem.ts'

const NASTY = `<script>alert("1")</script> & '\u0007`

const histogram = (...values: number[]) => {
  const recorded = new Histogram()
  for (const value of values) recorded.record(value)
  return recorded.encode()
}

const PLAN: LoadPlan = {
  target: {
    address: '192.0.2.1',
    port: 15443,
    tls: { serverNames: [NASTY], certificatePem: 'CERTIFICATE', privateKeyPem: 'PRIVATE-KEY', caPem: 'CA' },
  },
  phases: ['warm-up', 'before', 'storm', 'after'].map((name) => ({
    name,
    seconds: 1,
    warmUp: name === 'warm-up',
  })),
  flows: [
    { kind: 'requests', name: NASTY, connections: 2, rate: 3, request: get('/') },
    { kind: 'handshakes', name: 'storm', connections: 2, phases: ['storm'], request: get('/') },
    { kind: 'idle', name: 'idle', connections: 1, request: get('/') },
  ],
  intervalMs: 500,
}

const counts = (phase: string, latencies: readonly number[], lateness: number, errors = 0): PhaseCounts => ({
  phase,
  connections: phase === 'prepare' ? 2 : 1,
  requests: latencies.length,
  bytesReceived: 1_000,
  bytesSent: 10,
  errors,
  latency: histogram(...latencies),
  handshake: histogram(900),
  lateness: histogram(lateness),
  unfinished: 0,
  errorKinds: errors === 0 ? [] : [{ kind: NASTY, first: NASTY, count: errors }],
})

function resultOf(load: ProcessLoad, lateness = 10, unfinished = 0): LoadResult {
  const flows = PLAN.flows.map(({ name }) => ({
    name,
    phases: ['prepare', 'warm-up', 'before', 'storm', 'after'].map((phase) => ({
      ...counts(phase, phase === 'storm' ? [400, 90_000, 3_000_000] : [100, 200, 300], lateness, 1),
      unfinished,
    })),
  }))
  const samples = PLAN.flows.flatMap(({ name }) =>
    [0, 1, 2, 7, 12].map((index) => ({
      ...counts('', [100 * index], 0),
      flow: name,
      index,
      latency: index === 2 ? histogram() : histogram(100, 5_000 * index),
    })),
  )
  return loadResult(PLAN, [{ flows, load }], samples)
}

const CALM: ProcessLoad = { cpu: 0.4, waited: 0.1, cpuSeconds: 2 }

t.test('the report is well-formed, has everything in it, and asks nobody for anything', async (t) => {
  const html = htmlReport(PLAN, resultOf(CALM), { title: NASTY, lines: [NASTY], at: new Date(0) })
  t.equal(xmlProblem(html), '')
  t.notMatch(html, /<script|<link|<img|<iframe| src=| href=|url\(|@import/)
  t.equal(html.replaceAll('xmlns="http://www.w3.org/', '').includes('http'), false)
  t.match(html, /prefers-color-scheme: dark/)
  t.equal(html.match(/<svg /g)?.length, 3)
  t.match(html, /<td>storm<\/td>/)
  t.match(html, /p99 of .* in the storm: [\d,]+ times that before it/)
  t.match(html, /idle: 6 connections, held for 3 s, 3 lost/)
  t.match(html, /5 × &lt;script&gt;/, 'errors of all phases, with the first message')
  t.notMatch(html, /NaN|Infinity|undefined|PRIVATE-KEY/)
})

t.test('no line leaves its plot, and time goes one way', async (t) => {
  const html = htmlReport(PLAN, resultOf(CALM), { title: 'x', lines: [], at: new Date(0) })
  const paths = [...html.matchAll(/<path class="line[^>]* d="([^"]*)"/g)].map(([, path = '']) => path)
  t.equal(paths.length, 4 + 2 + 4)
  for (const path of paths) {
    const points = [...path.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)])
    t.ok(points.length > 1, path)
    t.ok(
      points.every(([x = -1, y = -1]) => x >= 76 && x <= 744 && y >= 28 && y <= 256),
      path,
    )
    t.ok(points.every(([x = 0], index) => index === 0 || x > (points[index - 1]?.[0] ?? 0)))
  }
  const [, first = ''] =
    /<path class="line c1"[^>]* d="([^"]*)"/.exec(html.slice(html.indexOf('Latency over time'))) ?? []
  t.equal(first.match(/M/g)?.length, 2, 'an interval in which nothing was answered is a gap')
})

t.test('JSON has every figure of every phase, and no certificate or key', async (t) => {
  const json = JSON.parse(JSON.stringify(resultJson(PLAN, resultOf(CALM))))
  t.notMatch(JSON.stringify(json), /PRIVATE-KEY|CERTIFICATE/)
  const [quiet, storm] = json.flows
  t.same(
    quiet.phases.map((phase: { name: string }) => phase.name),
    ['warm-up', 'before', 'storm', 'after'],
  )
  t.match(quiet.measured, {
    requests: 9,
    seconds: 3,
    requestsPerSecond: 3,
    latency: { count: 9, p50: 301, max: 3_000_000 },
  })
  t.match(quiet.total, { connections: 6, requests: 15, errors: 5 })
  t.match(storm.measured, { seconds: 1, requests: 3 })
  t.match(json.generator, { limited: false, processes: [CALM] })
})

t.test('it says in words whether the generator was the bottleneck', async (t) => {
  const wordsOf = (load: ProcessLoad, lateness?: number, unfinished?: number) => {
    const { limited, words } = verdictOf(resultOf(load, lateness, unfinished))
    return { limited, text: words.join('\n') }
  }
  t.match(wordsOf(CALM), {
    limited: false,
    text: 'the generator was not the bottleneck: it used 40 % of a core at most, and its schedule was late by 0.01 ms (p99)',
  })
  t.match(wordsOf({ ...CALM, cpu: 0.97 }), {
    limited: true,
    text: /^the generator used 97 % of its core: rates are a lower bound/,
  })
  t.match(wordsOf({ ...CALM, cpu: 0.5, waited: 0.45 }), {
    limited: true,
    text: /waited for a core for 45 %: this machine is too busy/,
  })
  t.match(wordsOf(CALM, 400_000), {
    limited: true,
    text: /the generator itself sent up to 400\.\d ms late \(p99\)/,
  })
  t.equal(wordsOf(CALM, 900).limited, false, 'less than a millisecond is nothing')
  t.match(wordsOf(CALM, 10, 4).text, /12 requests were not answered when the load was over/)
})
