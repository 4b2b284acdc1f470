// A mochi-mqtt as its readme builds one: every client is let in, and what it keeps is in a bolt file.
// Usage: mochi ADDRESS FILE
package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/hooks/storage/bolt"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	server := mqtt.New(nil)
	for _, err := range []error{
		server.AddHook(new(auth.AllowHook), nil),
		server.AddHook(new(bolt.Hook), &bolt.Options{Path: os.Args[2]}),
		server.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: os.Args[1]})),
		server.Serve(),
	} {
		if err != nil {
			log.Fatal(err)
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	<-ended
	if err := server.Close(); err != nil {
		log.Fatal(err)
	}
}
