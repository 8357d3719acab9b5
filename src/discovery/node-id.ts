import { fail, ok, type Result } from '../lib/result.ts'

/** What a proxy says it is in `node.id`: `router~10.0.0.7~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local`, Istio's form. */
export interface ProxyNode {
  readonly kind: 'router' | 'sidecar'
  readonly name: string
  readonly namespace: string
}

/** Reads `kind~ip~name.namespace~domain`. A pod's name may hold dots; a namespace may not. */
export function parseNodeId(id: string): Result<ProxyNode, string> {
  const [kind, , podAndNamespace = '', ...rest] = id.split('~')
  const dot = podAndNamespace.lastIndexOf('.')
  if (
    (kind !== 'router' && kind !== 'sidecar') ||
    rest.length !== 1 ||
    dot <= 0 ||
    dot === podAndNamespace.length - 1
  ) {
    return fail(
      `node.id "${id}": expected router~IP~NAME.NAMESPACE~DOMAIN or sidecar~IP~NAME.NAMESPACE~DOMAIN`,
    )
  }
  return ok({ kind, name: podAndNamespace.slice(0, dot), namespace: podAndNamespace.slice(dot + 1) })
}
