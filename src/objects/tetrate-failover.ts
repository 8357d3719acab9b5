// tetrateio.api.tsb.types.v2 FailoverSettings and RegionalFailover, inside WorkspaceSetting and OrganizationSetting.
import type { Field } from './field.ts'
import { isLabelPair } from './rules.ts'
import type { FailoverSettings } from './types.ts'

const LABELS_MAX = 16

/** What a setting says of failover; undefined: nothing. `failoverSettings` counts before `regionalFailover` beside it. */
export function readFailover(spec: Field): FailoverSettings | undefined {
  const settings = spec.get('failoverSettings')
  const older = readRegions(spec.get('regionalFailover'))
  if (!settings.present) {
    if (older.length === 0) return undefined
    return {
      field: 'spec.regionalFailover',
      topologyChoice: 'CLUSTER',
      failoverPriority: [],
      regionalFailover: older,
      automaticLoadBalancing: false,
    }
  }
  settings.only(['topologyChoice', 'failoverPriority', 'regionalFailover', 'automaticLoadBalancing'])
  const choice = settings.get('topologyChoice').oneOf(['CLUSTER', 'LOCALITY', 'NOT_SET'], 'CLUSTER')
  const labels = settings.get('failoverPriority')
  const failoverPriority = labels.list((label) => label.text(undefined, labelPair))
  if (failoverPriority.length > LABELS_MAX) labels.wrong(`expected at most ${LABELS_MAX} labels`)
  const balancing = settings.get('automaticLoadBalancing').get('enabled')
  return {
    field: 'spec.failoverSettings',
    topologyChoice: choice === 'LOCALITY' ? choice : 'CLUSTER',
    failoverPriority,
    regionalFailover: readRegions(settings.get('regionalFailover')),
    // A BoolValue: `{value: true}` in the reference's YAML, a bare one in protobuf's JSON.
    automaticLoadBalancing:
      typeof balancing.value === 'boolean' ? balancing.value : balancing.get('value').flag(false),
  }
}

function readRegions(list: Field): { readonly from: string; readonly to: string }[] {
  return list.list((item) => {
    item.only(['from', 'to'])
    const from = item.get('from').text()
    const to = item.get('to').text()
    if (from !== '' && from === to) item.get('to').wrong(`expected another region than "${from}"`)
    return { from, to }
  })
}

const labelPair = (text: string): string | undefined =>
  isLabelPair(text) ? undefined : 'a label, "key" or "key=value"'
