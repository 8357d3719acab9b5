// `istio.v1.auth.IstioCertificateService`, the one method that there is. Source: istio/api security/v1alpha1/ca.proto.
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { fail, ok, type Result } from '../lib/result.ts'

export const CREATE_CERTIFICATE = '/istio.v1.auth.IstioCertificateService/CreateCertificate'

/** `IstioCertificateRequest`. */
export interface CertificateRequestMessage {
  /** Field 1, PKCS#10 in PEM. */
  readonly csr: string
  /** Field 3, seconds. */
  readonly validitySeconds: number
}

export function encodeCertificateRequest({ csr, validitySeconds }: CertificateRequestMessage): Uint8Array {
  return new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(csr)
    .tag(3, WireType.Varint)
    .int64(validitySeconds)
    .finish()
}

/** The `cert_chain` (field 1) of an `IstioCertificateResponse`: PEM, the leaf first, the root last. Other fields are ignored. */
export function decodeCertificateResponse(bytes: Uint8Array): Result<readonly string[], string> {
  try {
    const reader = new BinaryReader(bytes)
    const chain: string[] = []
    while (reader.pos < reader.len) {
      const [no, wireType] = reader.tag()
      if (no === 1 && wireType === WireType.LengthDelimited) chain.push(reader.string())
      else reader.skip(wireType, no)
    }
    return ok(chain)
  } catch {
    return fail('its answer is no IstioCertificateResponse')
  }
}
