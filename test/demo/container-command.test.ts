import t from 'tap'
import { containerCommand, ISTHMUS } from '../../src/cli/demo/container-command.ts'

const container = (image: string, command: string[], args: string[]) => ({
  name: 'c',
  image,
  command,
  args,
  env: [],
  ports: [],
})

t.test('the image isthmus runs as this very program, whatever registry and tag it has', (t) => {
  for (const image of ['isthmus', 'isthmus:0.1.0', 'registry.example/team/isthmus@sha256:00'])
    t.strictSame(containerCommand(container(image, [], ['gateway', '--name', 'x'])), {
      argv: [...ISTHMUS, 'gateway', '--name', 'x'],
      foreign: false,
      gateway: true,
    })
  t.strictSame(containerCommand(container('isthmus', ['isthmus'], ['bookinfo', 'ratings']))?.argv, [
    ...ISTHMUS,
    'bookinfo',
    'ratings',
  ])
  t.strictSame(containerCommand(container('isthmus', ['node', '/app/isthmus.js', 'gateway'], []))?.argv, [
    ...ISTHMUS,
    'gateway',
  ])
  t.end()
})

t.test('another image runs its command from this machine, and cannot run without one', (t) => {
  t.strictSame(containerCommand(container('curlimages/curl', ['sleep', 'infinity'], [])), {
    argv: ['sleep', 'infinity'],
    foreign: true,
    gateway: false,
  })
  t.equal(containerCommand(container('notisthmus', [], ['gateway'])), undefined)
  t.end()
})
