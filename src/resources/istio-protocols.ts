/**
 * The ALPN names that Istio's proxies offer to each other on mutual TLS (istio/istio pilot/pkg/networking/util `ALPNInMesh…`). A
 * passthrough chain asks for one of them, as Istio's AUTO_PASSTHROUGH does, so that nothing but mesh TLS is ever spliced.
 */
export const ISTIO_PROTOCOLS: readonly string[] = [
  'istio',
  'istio-peer-exchange',
  'istio-http/1.0',
  'istio-http/1.1',
  'istio-h2',
]

/** What a discovery server speaks in TLS, and what the chains that lead to one ask for. */
export const DISCOVERY_PROTOCOLS: readonly string[] = ['h2', 'http/1.1']
