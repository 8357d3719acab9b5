// A proxyless gRPC client: one call for each line of standard input, which is its deadline in ms, one line of JSON for each
// answer.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
)

// raw hands bytes on as they are, so that no message types are needed.
type raw struct{}

func (raw) Name() string { return "raw" }
func (raw) Marshal(v any) ([]byte, error) {
	return *v.(*[]byte), nil
}
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

type answer struct {
	OK    string `json:"ok,omitempty"`
	Error string `json:"error,omitempty"`
}

func call(conn *grpc.ClientConn, method string, timeout time.Duration) answer {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	in, out := []byte{}, []byte{}
	if err := conn.Invoke(ctx, method, &in, &out, grpc.ForceCodec(raw{}), grpc.WaitForReady(true)); err != nil {
		return answer{Error: status.Code(err).String() + ": " + status.Convert(err).Message()}
	}
	return answer{OK: string(out)}
}

func main() {
	target, method := os.Args[1], os.Args[2]
	// In clear only where the control plane says so.
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		ms, err := strconv.Atoi(lines.Text())
		if err != nil {
			os.Exit(1)
		}
		if err := out.Encode(call(conn, method, time.Duration(ms)*time.Millisecond)); err != nil {
			os.Exit(1)
		}
	}
}
