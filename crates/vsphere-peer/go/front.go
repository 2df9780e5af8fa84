package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// trouble is something that goes wrong with calls of one method; "folder" stands for reads of datastore files.
type trouble struct {
	Method string `json:"method"`
	// Kind: status, fault, task_fault, stuck, delay, hold, cut, short.
	Kind string `json:"kind"`
	// Value: a status code, the name of a fault, milliseconds.
	Value string `json:"value"`
	// Skip lets so many calls pass first; Times is how often it happens then, 0 for ever.
	Skip  int `json:"skip"`
	Times int `json:"times"`
	// Where: only calls whose body has this text.
	Where string `json:"where"`
}

// front stands before the simulator: it counts, checks sessions on datastore files, and makes trouble.
type front struct {
	service  *simulator.Service
	user     string
	password string

	mutex    sync.Mutex
	calls    map[string]int
	troubles []*trouble
	// held is closed when calls that are held may go on.
	held chan struct{}
	// holding is how many calls are held.
	holding int
}

func (f *front) next(method, body string) *trouble {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.calls[method]++
	for i, it := range f.troubles {
		if it.Method != method || (it.Where != "" && !strings.Contains(body, it.Where)) {
			continue
		}
		if it.Skip > 0 {
			it.Skip--
			continue
		}
		if it.Times == 1 {
			f.troubles = append(f.troubles[:i], f.troubles[i+1:]...)
		} else if it.Times > 1 {
			it.Times--
		}
		return it
	}
	return nil
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/folder") {
		f.serveFolder(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	method, this := calledMethod(body)
	if it := f.next(method, string(body)); it != nil && f.makeTrouble(w, it, method, this) {
		return
	}
	if method == "CreateSnapshot_Task" {
		if vm, ok := simulator.Map.Get(this).(*simulator.VirtualMachine); ok {
			var failed error
			simulator.Map.WithLock(vm, func() { failed = simulator.PeerMark(vm) })
			if failed != nil {
				faulted(w, "SystemError", failed.Error())
				return
			}
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.service.ServeMux.ServeHTTP(w, r)
}

// makeTrouble tells whether the call has been answered.
func (f *front) makeTrouble(w http.ResponseWriter, it *trouble, method string, this types.ManagedObjectReference) bool {
	switch it.Kind {
	case "status":
		var code int
		fmt.Sscan(it.Value, &code)
		w.WriteHeader(code)
	case "fault":
		faulted(w, it.Value, "made by the test")
	case "task_fault":
		tasked(w, method, simulator.PeerTask(this, taskName(method), simulator.PeerFault(it.Value), "made by the test"))
	case "stuck":
		tasked(w, method, simulator.PeerTask(this, taskName(method), nil, ""))
	case "cut":
		panic(http.ErrAbortHandler)
	case "delay":
		var millis int
		fmt.Sscan(it.Value, &millis)
		time.Sleep(time.Duration(millis) * time.Millisecond)
		return false
	case "hold":
		f.mutex.Lock()
		until := f.held
		f.holding++
		f.mutex.Unlock()
		<-until
		f.mutex.Lock()
		f.holding--
		f.mutex.Unlock()
		return false
	}
	return true
}

// taskName is what a task of a method is described as: createSnapshot for CreateSnapshot_Task.
func taskName(method string) string {
	name := strings.TrimSuffix(method, "_Task")
	return strings.ToLower(name[:1]) + name[1:]
}

func (f *front) serveFolder(w http.ResponseWriter, r *http.Request) {
	it := f.next("folder", r.URL.Path)
	if !f.mayRead(r) {
		w.Header().Set("WWW-Authenticate", "Basic realm=\"datastores\"")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if it != nil && it.Kind == "short" {
		// A host that gives less than it promised.
		w.Header().Set("Content-Range", "bytes 0-0/1")
		w.WriteHeader(http.StatusPartialContent)
		return
	}
	if it != nil && it.Kind == "whole" {
		r.Header.Del("Range")
	} else if it != nil && f.makeTrouble(w, it, "folder", types.ManagedObjectReference{}) {
		return
	}
	f.service.ServeMux.ServeHTTP(w, r)
}

// mayRead: the packaged simulator shows datastore files to anybody, which no real host does.
func (f *front) mayRead(r *http.Request) bool {
	if cookie, err := r.Cookie("vmware_soap_session"); err == nil {
		return simulator.PeerHasSession(f.service, strings.Trim(cookie.Value, "\""))
	}
	return false
}

// calledMethod reads the method and its object from a SOAP request.
func calledMethod(body []byte) (string, types.ManagedObjectReference) {
	var request struct {
		Body struct {
			Call struct {
				XMLName xml.Name
				This    struct {
					Type  string `xml:"type,attr"`
					Value string `xml:",chardata"`
				} `xml:"_this"`
			} `xml:",any"`
		} `xml:"Body"`
	}
	if err := xml.Unmarshal(body, &request); err != nil {
		return "", types.ManagedObjectReference{}
	}
	call := request.Body.Call
	return call.XMLName.Local, types.ManagedObjectReference{Type: call.This.Type, Value: call.This.Value}
}

const envelope = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>%s</soapenv:Body></soapenv:Envelope>`

func faulted(w http.ResponseWriter, name, text string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	fault := fmt.Sprintf(`<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring><detail><%sFault xmlns="urn:vim25" xsi:type="%s"/></detail></soapenv:Fault>`, text, name, name)
	fmt.Fprintf(w, envelope, fault)
}

func tasked(w http.ResponseWriter, method string, task types.ManagedObjectReference) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	answer := fmt.Sprintf(`<%sResponse xmlns="urn:vim25"><returnval type="Task">%s</returnval></%sResponse>`, method, task.Value, method)
	fmt.Fprintf(w, envelope, answer)
}
