// The same clusters, endpoints and listeners served by go-control-plane: one LinearCache for each type, as its documentation advises
// for many clients with one view. Commands and answers are those of ../server.ts. Usage: server RESOURCES_FILE
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

type dumped struct {
	Type string `json:"type"`
	Name string `json:"name"`
	Body string `json:"body"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func load(path string) map[string]map[string]types.Resource {
	file, err := os.Open(path)
	check(err)
	defer file.Close()
	all := map[string]map[string]types.Resource{}
	decoder := json.NewDecoder(file)
	for {
		var one dumped
		if err := decoder.Decode(&one); err == io.EOF {
			return all
		} else {
			check(err)
		}
		body, err := base64.StdEncoding.DecodeString(one.Body)
		check(err)
		var message types.Resource
		switch one.Type {
		case resource.ClusterType:
			message = &cluster.Cluster{}
		case resource.EndpointType:
			message = &endpoint.ClusterLoadAssignment{}
		case resource.ListenerType:
			message = &listener.Listener{}
		default:
			continue
		}
		check(proto.Unmarshal(body, message))
		if all[one.Type] == nil {
			all[one.Type] = map[string]types.Resource{}
		}
		all[one.Type][one.Name] = message
	}
}

// The address that ../objects.ts gives the first endpoint at a revision.
func moved(load *endpoint.ClusterLoadAssignment, revision int) *endpoint.ClusterLoadAssignment {
	changed := proto.Clone(load).(*endpoint.ClusterLoadAssignment)
	first := changed.Endpoints[0].LbEndpoints[len(changed.Endpoints[0].LbEndpoints)-1]
	address := first.GetEndpoint().Address.GetSocketAddress()
	address.Address = fmt.Sprintf("10.200.%d.%d", (revision>>8)&255, revision&255)
	address.Protocol = core.SocketAddress_TCP
	return changed
}

func main() {
	resources := load(os.Args[1])
	mux := cache.MuxCache{
		Classify:      func(request *cache.Request) string { return request.TypeUrl },
		ClassifyDelta: func(request *cache.DeltaRequest) string { return request.TypeUrl },
		Caches:        map[string]cache.Cache{},
	}
	linear := map[string]*cache.LinearCache{}
	for _, typeURL := range []string{resource.ClusterType, resource.EndpointType, resource.ListenerType} {
		linear[typeURL] = cache.NewLinearCache(typeURL, cache.WithInitialResources(resources[typeURL]))
		mux.Caches[typeURL] = linear[typeURL]
	}
	at, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	serving := grpc.NewServer(grpc.MaxConcurrentStreams(1000))
	discovery.RegisterAggregatedDiscoveryServiceServer(serving, server.NewServer(context.Background(), &mux, nil))
	go func() { check(serving.Serve(at)) }()
	fmt.Printf("{\"ready\":{\"tls\":0,\"plain\":%d}}\n", at.Addr().(*net.TCPAddr).Port)

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "change":
			var revision int
			_, err := fmt.Sscan(words[2], &revision)
			check(err)
			name := words[3]
			next := moved(resources[resource.EndpointType][name].(*endpoint.ClusterLoadAssignment), revision)
			check(linear[resource.EndpointType].UpdateResource(name, next))
		case "collect":
			debug.FreeOSMemory()
		}
		fmt.Printf("{\"done\":%q}\n", words[0])
	}
}
