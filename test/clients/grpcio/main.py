"""A proxyless gRPC client: one call for each line of standard input, which is its deadline in ms, one line of JSON for each answer."""

import json
import sys

import grpc
import grpc.experimental

target, method = sys.argv[1:]
# In clear only where the control plane says so.
credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
with grpc.secure_channel(target, credentials) as channel:
    call = channel.unary_unary(method)
    for line in sys.stdin:
        try:
            answer = {"ok": call(b"", timeout=int(line) / 1000, wait_for_ready=True).decode()}
        except grpc.RpcError as error:
            answer = {"error": f"{error.code().name}: {error.details()}"}
        print(json.dumps(answer), flush=True)
