// istio.networking.v1alpha3.DestinationRule as an MCP resource. Field numbers: istio/api networking/v1alpha3/destination_rule.proto.
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type { XdsResource } from '../xds/types.ts'
import { encodeMcp, type McpMetadata } from './mcp.ts'
import { writeMap, writeMessage, writeString, writeStrings, writeUint32 } from './protobuf-fields.ts'

/** The DestinationRule of an imported host, the parts that Isthmus writes. */
export interface DestinationRuleConfig extends McpMetadata {
  readonly host: string
  readonly subsets: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[]
  /**
   * SPIFFE ids that may answer, for every endpoint of the host: `tls.mode: ISTIO_MUTUAL`, which makes a sidecar speak TLS to all of
   * them. Empty: `tls` is left to Istio's automatic mutual TLS, which goes by each endpoint's own label.
   */
  readonly subjectAltNames: readonly string[]
  /** Labels whose agreement with the caller's brings an endpoint forward, in this order. */
  readonly failoverPriority: readonly string[]
  readonly exportTo: readonly string[]
}

const BODY_TYPE = 'type.googleapis.com/istio.networking.v1alpha3.DestinationRule'
const ISTIO_MUTUAL = 3
/** The same figures as in the upstreams of our own sidecars. */
const CONSECUTIVE_5XX = 5
const CONSECUTIVE_LOCAL_ORIGIN_FAILURES = 2
const INTERVAL_SECONDS = 1
const BASE_EJECTION_SECONDS = 3
const MAX_EJECTION_PERCENT = 100

export function encodeDestinationRule(rule: DestinationRuleConfig): XdsResource {
  const writer = new BinaryWriter()
  writeString(writer, 1, rule.host)
  writeMessage(writer, 2, (policy) => {
    if (rule.failoverPriority.length > 0)
      writeMessage(policy, 1, (balancer) =>
        writeMessage(balancer, 3, (locality) => writeLocality(locality, rule)),
      )
    writeMessage(policy, 3, writeOutlierDetection)
    if (rule.subjectAltNames.length > 0)
      writeMessage(policy, 4, (tls) => {
        writeUint32(tls, 1, ISTIO_MUTUAL)
        writeStrings(tls, 5, rule.subjectAltNames)
      })
  })
  for (const { name, labels } of rule.subsets) {
    writeMessage(writer, 3, (subset) => {
      writeString(subset, 1, name)
      writeMap(subset, 2, labels, writeString)
    })
  }
  writeStrings(writer, 4, rule.exportTo)
  return encodeMcp(rule, BODY_TYPE, writer.finish())
}

function writeLocality(writer: BinaryWriter, { failoverPriority }: DestinationRuleConfig): void {
  writeMessage(writer, 3, (enabled) => enabled.tag(1, WireType.Varint).bool(true))
  writeStrings(writer, 4, failoverPriority)
}

/** Without it Istio never fails over: it is what tells it that an endpoint does not answer. */
function writeOutlierDetection(writer: BinaryWriter): void {
  writeMessage(writer, 2, (interval) => writeUint32(interval, 1, INTERVAL_SECONDS))
  writeMessage(writer, 3, (ejection) => writeUint32(ejection, 1, BASE_EJECTION_SECONDS))
  writeUint32(writer, 4, MAX_EJECTION_PERCENT)
  writeMessage(writer, 7, (failures) => writeUint32(failures, 1, CONSECUTIVE_5XX))
  writer.tag(8, WireType.Varint).bool(true)
  writeMessage(writer, 9, (failures) => writeUint32(failures, 1, CONSECUTIVE_LOCAL_ORIGIN_FAILURES))
}
