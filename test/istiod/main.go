// Istio's control plane as it is, with a Kubernetes API that lives in its memory: what it knows is the objects of a file and what an
// xds:// address of its mesh configuration tells it. For the tests that ISTIOD_BIN switches on; built outside of this repository, since
// nothing else here is written in Go (four minutes on two cores):
//
//	mkdir /tmp/istiod && cp test/istiod/main.go /tmp/istiod && cd /tmp/istiod && go mod init istiod
//	go get istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad && go mod tidy
//	go build -tags vtprotobuf,disable_pgv -o istiod .
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"
	"unsafe"

	"istio.io/istio/pilot/pkg/bootstrap"
	"istio.io/istio/pilot/pkg/serviceregistry/provider"
	"istio.io/istio/pkg/kube"
	"k8s.io/apimachinery/pkg/runtime"
)

func main() {
	mesh := flag.String("meshConfig", "", "file of the mesh configuration")
	objects := flag.String("objects", "", "file of Kubernetes objects, YAML")
	httpAddr := flag.String("httpAddr", "", "address of /ready")
	grpcAddr := flag.String("grpcAddr", "", "address of ADS in clear")
	monitoring := flag.String("monitoringAddr", "", "address of the metrics")
	flag.Parse()

	var found []runtime.Object
	if *objects != "" {
		text, err := os.ReadFile(*objects)
		if err != nil {
			log.Fatal(err)
		}
		for _, document := range strings.Split(string(text), "\n---\n") {
			if strings.TrimSpace(document) == "" {
				continue
			}
			object, _, err := kube.IstioCodec.UniversalDeserializer().Decode([]byte(document), nil, nil)
			if err != nil {
				log.Fatal(err)
			}
			found = append(found, object)
		}
	}
	client := kube.NewFakeClient(found...)
	args := bootstrap.NewPilotArgs(func(p *bootstrap.PilotArgs) {
		p.Namespace = "istio-system"
		p.PodName = "istiod-1"
		p.MeshConfigFile = *mesh
		p.ServerOptions = bootstrap.DiscoveryServerOptions{HTTPAddr: *httpAddr, GRPCAddr: *grpcAddr, MonitoringAddr: *monitoring}
		p.RegistryOptions.Registries = []string{string(provider.Kubernetes)}
		p.RegistryOptions.KubeOptions.DomainSuffix = "cluster.local"
		p.RegistryOptions.KubeOptions.ClusterID = "cluster-2"
		p.ShutdownDuration = 1
	})
	// Its tests set this field, which no option does.
	set := func(server *bootstrap.Server) {
		field := reflect.ValueOf(server).Elem().FieldByName("kubeClient")
		reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Set(reflect.ValueOf(client))
	}
	server, err := bootstrap.NewServer(args, set)
	if err != nil {
		log.Fatal(err)
	}
	stop := make(chan struct{})
	if err := server.Start(stop); err != nil {
		log.Fatal(err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	close(stop)
	server.WaitUntilCompletion()
}
