// biome-ignore-all lint/suspicious/noTemplateCurlyInString: placeholders of manifests are what is tested
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parse } from 'yaml'
import { runApply } from '../../src/cli/apply.ts'
import { runDelete } from '../../src/cli/delete.ts'
import { type GetOptions, runGet } from '../../src/cli/get.ts'
import type { Terminal } from '../../src/cli/object-command.ts'
import { makeFolder, makeStore, service } from './folder.ts'

const root = join(dirname(fileURLToPath(import.meta.url)), '../..')
const story = (name: string) => join(root, 'deploy/examples/bookinfo/story', name)
const SET = { ORG: 'acme', TEN: 'eng' }

/** A terminal that remembers. */
function terminal(
  env: Record<string, string> = {},
  stdin = '',
): Terminal & { said(): string; complained(): string } {
  const [out, err]: string[][] = [[], []]
  return {
    env,
    stdin: () => Promise.resolve(stdin),
    out: (text) => void out?.push(text),
    err: (text) => void err?.push(text),
    said: () => out?.join('') ?? '',
    complained: () => err?.join('') ?? '',
  }
}

t.test('apply creates, changes by identity, and leaves what is equal', async (t) => {
  const folder = makeFolder(t)
  const apply = async (...names: string[]) => {
    const screen = terminal({ ORG: 'acme' })
    const code = await runApply(
      { filename: names.map(story), dir: [folder.path], set: { TEN: 'eng' } },
      screen,
    )
    t.strictSame([code, screen.complained()], [0, ''])
    return screen.said()
  }
  t.equal(
    await apply('bookinfo-ws.yaml', 'bookinfo-ws-eastwest.yaml'),
    'workspace/bookinfo-ws created\nworkspacesetting/bookinfo-ws-setting created\n',
  )
  t.equal(await apply('bookinfo-ws-limited.yaml'), 'workspacesetting/bookinfo-ws-setting configured\n')
  t.equal(await apply('bookinfo-ws-limited.yaml'), 'workspacesetting/bookinfo-ws-setting unchanged\n')
  t.strictSame(readdirSync(folder.path).sort(), [
    'workspace.acme.eng.bookinfo-ws.yaml',
    'workspacesetting.acme.eng.bookinfo-ws.bookinfo-ws-setting.yaml',
  ])
  const written = readFileSync(
    join(folder.path, 'workspacesetting.acme.eng.bookinfo-ws.bookinfo-ws-setting.yaml'),
    'utf8',
  )
  const given = readFileSync(story('bookinfo-ws-limited.yaml'), 'utf8')
  t.equal(written, given.replace('${ORG}', 'acme').replace('${TEN}', 'eng'))
})

t.test('apply of wrong input says all that is wrong, applies nothing and ends with 64', async (t) => {
  const folder = makeFolder(t)
  folder.write('in/good.yaml', service('good'))
  folder.write('in/bad.yaml', service('bad', 0))
  const screen = terminal()
  const filename = [join(folder.path, 'in'), story('bookinfo-ws.yaml'), join(folder.path, 'none.yaml')]
  folder.write('out/keep.yaml', service('keep'))
  t.equal(await runApply({ filename, dir: [join(folder.path, 'out')], set: { ORG: 'acme' } }, screen), 64)
  t.match(
    screen.complained(),
    /bad\.yaml#1 Service\/bad: spec\.ports\[0\]\.port: expected a number 1-65535, found 0\n/,
  )
  t.match(
    screen.complained(),
    /bookinfo-ws\.yaml#1 Workspace\/bookinfo-ws: metadata\.tenant: \$\{TEN\} is not set/,
  )
  t.match(screen.complained(), /none\.yaml: cannot be read \(ENOENT\)/)
  t.strictSame(readdirSync(join(folder.path, 'out')), ['keep.yaml'])
  t.equal(screen.said(), '')
})

t.test('apply: the same object given twice, no object, no directory', async (t) => {
  const folder = makeFolder(t)
  const twice = terminal({}, `${service('a')}---\n${service('a')}`)
  t.equal(await runApply({ filename: ['-'], dir: [folder.path], set: {} }, twice), 64)
  t.match(twice.complained(), /stdin#2 Service\/shop\/a: metadata: is given already in stdin#1/)
  t.equal(await runApply({ filename: ['-'], dir: [folder.path], set: {} }, terminal()), 64)
  const nowhere = terminal({}, service('a'))
  t.equal(await runApply({ filename: ['-'], dir: [join(folder.path, 'no')], set: {} }, nowhere), 64)
  t.match(nowhere.complained(), /there is no such directory/)
})

t.test('delete by file and by name', async (t) => {
  const folder = makeFolder(t)
  folder.write('a.yaml', [service('a'), service('b'), service('a', 80, 'other')].join('---\n'))
  const remove = async (
    kind: string | undefined,
    name: string | undefined,
    more: object = {},
    stdin = '',
  ) => {
    const screen = terminal(SET, stdin)
    const code = await runDelete(kind, name, { dir: [folder.path], set: {}, ...more }, screen)
    return [code, screen.said() + screen.complained()]
  }
  t.strictSame(await remove('svc', 'a'), [
    64,
    'error: "a" is one of other/a, shop/a: say which, with -n or by the whole name\n',
  ])
  t.strictSame(await remove('svc', 'a', { namespace: 'shop' }), [0, 'service "a" deleted\n'])
  t.strictSame(await remove('Service', 'other/a'), [0, 'service "a" deleted\n'])
  t.strictSame(await remove(undefined, undefined, { filename: ['-'] }, service('b')), [
    0,
    'service "b" deleted\n',
  ])
  t.strictSame(readdirSync(folder.path), [])
  t.strictSame(await remove('services', 'b'), [1, 'error: Service/b is not there\n'])
  t.strictSame(await remove('services', 'b', { ignoreNotFound: true }), [0, ''])
  t.match(await remove('x', 'b'), [64, /there is no kind "x"/])
  t.match(await remove(undefined, undefined), [64, /either -f FILE or KIND NAME/])
})

t.test('get prints tables, names, YAML and JSON, with status and generated objects', async (t) => {
  const folder = makeFolder(t)
  folder.write('gateway.yaml', readFileSync(story('eastwest-gateway.yaml'), 'utf8'))
  const store = makeStore(t, folder)
  const metadata = { name: 'eastwest-gateway', namespace: 'bookinfo' }
  await store.apply({
    apiVersion: 'v1',
    kind: 'Service',
    metadata,
    spec: { type: 'LoadBalancer', ports: [{ port: 15443 }] },
  })
  const ref = { namespace: 'bookinfo', organization: '', tenant: '', workspace: '', name: metadata.name }
  const condition = {
    type: 'Programmed',
    status: 'False',
    reason: 'AwaitingAddress',
    message: 'none yet',
  } as const
  await store.updateStatus({ kind: 'IngressGateway', ...ref }, { conditions: [condition] })
  const get = async (kind: string, name?: string, more: Partial<GetOptions> = {}) => {
    const screen = terminal()
    const code = await runGet(kind, name, { dir: [folder.path], set: {}, output: 'table', ...more }, screen)
    return { code, out: screen.said(), err: screen.complained() }
  }
  t.match(await get('igw'), {
    code: 0,
    out: 'NAMESPACE   NAME               ADDRESS   CONDITIONS\nbookinfo    eastwest-gateway   <none>    Programmed=False(AwaitingAddress)\n',
    err: '',
  })
  await store.updateStatus({ kind: 'Service', ...ref }, { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } })
  t.match((await get('ingressgateways')).out, /eastwest-gateway +192\.0\.2\.1 /)
  t.match((await get('Service', undefined, { output: 'name' })).out, 'service/eastwest-gateway\n')
  const yaml = parse((await get('igw', 'eastwest-gateway', { output: 'yaml' })).out)
  t.match(yaml, { kind: 'IngressGateway', spec: { eastWestOnly: true }, status: { conditions: [condition] } })
  t.match(JSON.parse((await get('svc', undefined, { output: 'json' })).out), {
    kind: 'List',
    items: [{ kind: 'Service' }],
  })
  t.match(await get('svc', undefined, { namespace: 'shop' }), {
    code: 0,
    err: 'No services found in namespace shop.\n',
  })
  t.match(await get('svc', 'x'), { code: 1, err: 'error: no Service "x"\n' })
  folder.write('bad.yaml', service('bad', 0))
  t.match(await get('svc'), { code: 0, err: /^warning: bad\.yaml#1 Service\/bad: spec\.ports\[0\]\.port/ })
})

t.test('get has a table for every kind', async (t) => {
  const folder = makeFolder(t)
  const examples = [
    [
      'networkings',
      'networking.istio.io/v1',
      'ServiceEntry',
      '{hosts: [a.b], ports: [{name: h, number: 80}], resolution: STATIC, endpoints: [{address: 192.0.2.1, ports: {h: 15443}}]}',
    ],
    ['policy', 'security.istio.io/v1', 'AuthorizationPolicy', '{rules: [{}]}'],
    ['p', 'v1', 'Pod', '{containers: [{name: c}]}'],
  ]
  for (const [name, apiVersion, kind, spec] of examples)
    folder.write(
      `${name}.yaml`,
      `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: ${spec}\n`,
    )
  folder.write(
    'e.yaml',
    'apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e}\naddressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 80}]\n',
  )
  folder.write('s.yaml', 'apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {pin: hush}\n')
  for (const name of ['bookinfo-ws.yaml', 'bookinfo-ws-limited.yaml', 'reachability.yaml'])
    folder.write(name, readFileSync(story(name), 'utf8'))
  const rows: readonly (readonly [kind: string, row: RegExp])[] = [
    ['se', /networkings +a\.b +80 +MESH_EXTERNAL +STATIC +192\.0\.2\.1:15443\n/],
    ['pods', /default +p +no +<none>/],
    ['eps', /e +<none> +80 +1\/1 +10\.0\.0\.1\n/],
    ['secret', /s +Opaque +pin\n/],
    ['ws', /bookinfo-ws +acme\/eng +\*\/bookinfo/],
    ['wss', /eastwest\/app=eastwest-gateway +failover=enable\|app=details/],
    ['organizationsetting', /cluster-2-network→cluster-1-network/],
    ['clusters', /cluster-1 +acme +cluster-1-network +cluster-1\.local +eu-west-2/],
  ]
  for (const [kind, row] of rows) {
    const screen = terminal(SET)
    t.equal(await runGet(kind, undefined, { dir: [folder.path], set: {}, output: 'table' }, screen), 0)
    t.match(screen.said(), row, kind)
    t.equal(screen.complained(), '')
  }
})

t.test('the real command: flags, environment, exit codes', async (t) => {
  const folder = makeFolder(t)
  const run = (args: readonly string[], env: Record<string, string> = {}) =>
    new Promise<{ code: unknown; out: string; err: string }>((resolve) => {
      const command = ['--disable-warning=ExperimentalWarning', join(root, 'src/main.ts'), ...args]
      const options = { env: { PATH: process.env['PATH'] ?? '', ...env } }
      execFile(process.execPath, command, options, (error, out, err) =>
        resolve({ code: error?.code ?? 0, out, err }),
      )
    })
  const file = story('bookinfo-ws.yaml')
  const [missing, usage, applied] = await Promise.all([
    run(['apply', '-f', file, '--dir', folder.path], { ORG: 'acme' }),
    run(['get', 'svc']),
    run(['apply', '-f', file, '--dir', folder.path, '--set', 'ORG=acme', '--set', 'TEN=eng']),
  ])
  t.match(missing, {
    code: 64,
    err: /bookinfo-ws\.yaml#1 Workspace\/bookinfo-ws: metadata\.tenant: \$\{TEN\} is not set/,
  })
  t.match(usage, { code: 64, err: /--dir/ })
  t.strictSame(applied, { code: 0, out: 'workspace/bookinfo-ws created\n', err: '' })
  t.match(await run(['get', 'ws', '-o', 'name'], { ISTHMUS_DIR: folder.path }), {
    code: 0,
    out: 'workspace/bookinfo-ws\n',
  })
})
