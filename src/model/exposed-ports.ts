// Which ports of an exposed service other clusters may call: all, unless a list of names and numbers says otherwise. A list narrows, and
// where both the Service and the item that exposes it have one, a port must be on both.
import { own } from '../lib/own.ts'
import { PORTS_ANNOTATION, parsePortList } from '../objects/port-list.ts'
import type { ModelService } from './types.ts'

/** The service with the ports that are exposed, the same object where all are; none: nothing of it is exposed. */
export function withExposedPorts(
  service: ModelService,
  listOfItem: readonly (string | number)[] | undefined,
): ModelService {
  const said = own(service.annotations, PORTS_ANNOTATION)
  // What cannot be read opens nothing.
  const listOfService = said === undefined ? undefined : (parsePortList(said) ?? [])
  const isOn = (
    list: readonly (string | number)[] | undefined,
    { name, number }: ModelService['ports'][number],
  ) => list === undefined || list.includes(number) || (name !== '' && list.includes(name))
  const ports = service.ports.filter((port) => isOn(listOfService, port) && isOn(listOfItem, port))
  return ports.length === service.ports.length ? service : { ...service, ports }
}

/** What is wrong with a Service's own list; undefined: nothing. */
export function portListMistake(
  annotations: Readonly<Record<string, string>>,
  ports: ModelService['ports'],
): string | undefined {
  const said = own(annotations, PORTS_ANNOTATION)
  if (said === undefined) return undefined
  const field = `metadata.annotations["${PORTS_ANNOTATION}"]`
  const list = parsePortList(said)
  if (list === undefined)
    return `${field}: found "${said}", expected names or numbers of ports, separated by commas; no port is exposed`
  const unknown = list.find((item) => !ports.some(({ name, number }) => item === number || item === name))
  return unknown === undefined ? undefined : `${field}: it has no TCP port ${JSON.stringify(unknown)}`
}
