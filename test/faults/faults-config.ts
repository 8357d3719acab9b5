// What we are told and given: certificates, policies, endpoints, and a discovery server that has lost its mind.
import { TYPE } from '../../src/xds/types.ts'
import { becomes } from './becomes.ts'
import { type Fault, lasts, must } from './fault.ts'
import { HostileDiscovery, type Madness } from './hostile-discovery.ts'
import { CALLERS, PRODUCTPAGE } from './resources.ts'
import { footprint } from './world.ts'

const endpointsAre = (where: 'refused' | 'blackhole', words: string): Fault => ({
  name: words,
  costs: 'nothing',
  chaos: 'endpoints',
  async begin(world, { end }) {
    end(() => world.endpointsOf(PRODUCTPAGE, 'good'))
    await world.endpointsOf(PRODUCTPAGE, where)
    await lasts(1_200)
  },
})

/** Something that cannot be used takes the place of what was good; traffic goes on with that, and the log names the file. */
const brokenFile = (name: 'tls.crt' | 'tls.key' | 'ca.crt', content: string, words: string): Fault => ({
  name: `${name} ${words}`,
  costs: 'nothing',
  nodeOnly: true,
  async begin(world, { end }) {
    end(() => world.rotateCertificate())
    const from = world.pod.lines.length
    world.writeCertificateFile(name, content)
    await world.said(from, new RegExp(name.replace('.', '\\.')))
    await lasts(300)
  },
})

const madDiscovery = (madness: Madness, words: string): Fault => ({
  name: `discovery ${words}`,
  costs: 'nothing',
  nodeOnly: true,
  async begin(world, { note, end }) {
    await world.discovery.kill()
    const supervisor = await world.supervisor()
    const before = footprint(supervisor).memoryKb
    const mad = await HostileDiscovery.start(world.ca, world.discovery.address, madness)
    end(() => mad.close())
    end(() => world.discovery.start())
    await becomes('it is asked', 10_000, () => mad.streams > 0)
    await lasts(1_500)
    const grown = Math.max(0, Math.round((footprint(supervisor).memoryKb - before) / 1_024))
    note(`asked ${mad.streams}×, sent ${mad.messages} messages, supervisor +${grown} MB`)
    must(grown < 200, `the supervisor grew by ${grown} MB`)
    must((await world.supervisor()) === supervisor, 'the supervisor died of it')
  },
})

export const CONFIG_FAULTS: readonly Fault[] = [
  {
    name: "the gateway's certificate is rotated 5 times, every 500 ms",
    costs: 'nothing',
    chaos: 'certificate',
    async begin(world) {
      for (let i = 0; i < 5; i += 1) {
        await world.rotateCertificate()
        await lasts(500)
      }
    },
  },
  brokenFile('tls.crt', 'no certificate', 'is garbage'),
  brokenFile('tls.key', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n', 'is broken'),
  brokenFile('ca.crt', '', 'is empty'),
  {
    name: 'the policy no longer allows the callers',
    costs: 'some',
    async begin(world, { note, end }) {
      end(() => world.policy(CALLERS))
      const begun = Date.now()
      await world.policy([])
      const ms = await becomes('every open connection is cut', 1_000, () => world.load.keptSince(begun) === 0)
      note(`every open connection was cut within ${ms} ms`)
      const target = { name: '', ...world.target, serverName: PRODUCTPAGE }
      const answers = await Promise.all(Array.from({ length: 10 }, () => world.load.call(target)))
      must(
        answers.every((failure) => failure !== undefined),
        'a new connection was let in',
      )
    },
  },
  {
    name: 'the policy is written anew every 50 ms',
    costs: 'nothing',
    chaos: 'policy',
    async begin(world, { end }) {
      end(() => world.policy(CALLERS))
      for (let i = 0; i < 20; i += 1) {
        await world.policy([...CALLERS, `spiffe://cluster-1.example/ns/team-${i}/`])
        await lasts(50)
      }
    },
  },
  endpointsAre('refused', 'two endpoints refuse connections, one serves'),
  endpointsAre('blackhole', 'one endpoint of two swallows everything'),
  {
    name: 'endpoints flap every 100 ms',
    costs: 'nothing',
    chaos: 'endpoints',
    async begin(world, { end }) {
      end(() => world.endpointsOf(PRODUCTPAGE, 'good'))
      for (let i = 0; i < 10; i += 1) {
        await world.endpointsOf(PRODUCTPAGE, i % 2 === 0 ? 'only b' : 'good')
        await lasts(100)
      }
    },
  },
  {
    name: 'a service resets each connection as soon as it has taken it',
    costs: 'some',
    async begin(world, { end }) {
      end(() => world.wires.services.order({ mode: 'pass' }))
      await world.wires.services.order({ mode: 'refuse' })
      await lasts(800)
    },
  },
  {
    name: 'one bad listener, upstream and set of endpoints among the good ones',
    costs: 'nothing',
    nodeOnly: true,
    async begin(world, { end }) {
      const from = world.pod.lines.length
      const bad = (name: string, typeUrl: string) => ({
        name,
        version: 'bad',
        anyTypeUrl: typeUrl,
        body: new Uint8Array([0x0a, 0xff, 0xff]),
      })
      const name = 'outbound_.1_._.bad.bookinfo.svc.cluster.local'
      for (const typeUrl of [TYPE.cluster, TYPE.endpoints, TYPE.listener]) {
        end(() => world.discovery.remove(typeUrl, name))
        await world.discovery.put(typeUrl, bad(name, typeUrl))
      }
      await world.said(from, /bad\.bookinfo/)
      await lasts(300)
    },
  },
  madDiscovery('garbage', 'answers with garbage'),
  madDiscovery('huge', 'answers with messages of 64 MB'),
  madDiscovery('nack', 'sends what is refused again and again'),
  madDiscovery('cut', 'ends in the middle of each message'),
]
