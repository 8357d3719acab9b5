import t from 'tap'
import { subsetMarkdown } from '../../src/cli/subset-markdown.ts'
import { readDocument, withSubset } from './subset-document.ts'

t.test('docs/ENVOY-SUBSET.md says what the code refuses and takes', async (t) => {
  t.equal(readDocument(), withSubset(readDocument()), 'run node test/resources/subset-document.ts')
})

t.test('rules of rbac are found by trying them', async (t) => {
  const text = subsetMarkdown()
  t.match(text, /- permissions: .*`requested_server_name`/)
  t.match(text, /- principals: .*`authenticated`.*`direct_remote_ip`/)
  t.notMatch(text, '`url_path`')
  t.notMatch(text, /- (permissions|principals): .*`metadata`/)
  t.match(text, '`upstream_connect_mode`', 'fields that the generated code does not know have names')
})
