// What the peer needs from inside the packaged simulator: Go's -overlay compiles this file as one more of that package,
// so nothing of the package is copied or patched.
package simulator

import (
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type peerState struct {
	sync.Mutex
	sequence int64
	uuid     string
	// How often the tracking of a VM was off at a snapshot: what follows is another tracking.
	anew map[string]int
	// The content of a disk when a change id was given out: one digest per grain.
	marks map[string][][32]byte
	// Scripted pages by VM name and disk key; they win over the truth.
	scripts  map[string][]PeerPage
	pageArea int
	// Tasks that never end.
	stuck []*Task
	// VMs that were taken out of the inventory, by name, and the folders that they lay in.
	kept map[string]keptVM
}

type keptVM struct {
	vm        *VirtualMachine
	folder    types.ManagedObjectReference
	snapshots map[types.ManagedObjectReference]*VirtualMachineSnapshot
}

var peer = peerState{
	uuid:     "52 6f 1d 00 9a 3c 44 81-b2 10 5e 77 0c aa 42 19",
	anew:     map[string]int{},
	marks:    map[string][][32]byte{},
	scripts:  map[string][]PeerPage{},
	pageArea: 2000,
	kept:     map[string]keptVM{},
}

// PeerClient is a client that runs inside the process.
func PeerClient(s *Service) *vim25.Client { return s.client }

// PeerHasSession tells whether a session cookie is live.
func PeerHasSession(s *Service, key string) bool { _, ok := s.sm.getSession(key); return ok }

// PeerExpireSessions ends every session.
func PeerExpireSessions(s *Service) {
	sessionMutex.Lock()
	defer sessionMutex.Unlock()
	for key := range s.sm.sessions {
		delete(s.sm.sessions, key)
	}
}

// PeerBecome is another vCenter from now on, with the same VMs, as a copy of one that was restored elsewhere; nobody is
// logged in to it. Without an id it is a server that has none.
func PeerBecome(s *Service, uuid string) {
	instance := Map.Get(vim25.ServiceInstance).(*ServiceInstance)
	Map.WithLock(instance, func() { instance.Content.About.InstanceUuid = uuid })
	PeerExpireSessions(s)
}

// PeerVM finds a VM by its name.
func PeerVM(name string) *VirtualMachine {
	for _, e := range Map.All("VirtualMachine") {
		if vm := e.(*VirtualMachine); vm.Name == name {
			return vm
		}
	}
	return nil
}

// PeerKeep keeps what an unregistered VM has, as its files do; nothing of it is an object any more.
func PeerKeep(vm *VirtualMachine, folder types.ManagedObjectReference) {
	kept := keptVM{vm, folder, map[types.ManagedObjectReference]*VirtualMachineSnapshot{}}
	var take func(tree []types.VirtualMachineSnapshotTree)
	take = func(tree []types.VirtualMachineSnapshotTree) {
		for _, it := range tree {
			kept.snapshots[it.Snapshot] = Map.Get(it.Snapshot).(*VirtualMachineSnapshot)
			Map.Remove(it.Snapshot)
			take(it.ChildSnapshotList)
		}
	}
	if vm.Snapshot != nil {
		take(vm.Snapshot.RootSnapshotList)
	}
	peer.Lock()
	peer.kept[vm.Name] = kept
	peer.Unlock()
}

// PeerRegister puts a VM that was unregistered back, with its snapshots; it and they have other references from now on.
// The packaged simulator makes an empty VM in its place.
func PeerRegister(name string) error {
	peer.Lock()
	kept, known := peer.kept[name]
	delete(peer.kept, name)
	peer.Unlock()
	if !known {
		return fmt.Errorf("%q was not unregistered", name)
	}
	vm := kept.vm
	Map.NewEntity(vm)
	vm.RecentTask = nil
	folder, ok := asFolderMO(Map.Get(kept.folder).(*Folder))
	if !ok {
		return fmt.Errorf("the folder of %q is gone", name)
	}
	folderPutChild(internalContext, folder, vm)
	host := Map.Get(*vm.Runtime.Host).(*HostSystem)
	Map.AddReference(host, &host.Vm, vm.Self)
	if pool, ok := Map.Get(*vm.ResourcePool).(*ResourcePool); ok {
		Map.AddReference(pool, &pool.Vm, vm.Self)
	}
	for _, ref := range vm.Datastore {
		ds := Map.Get(ref).(*Datastore)
		Map.AddReference(ds, &ds.Vm, vm.Self)
	}
	if vm.Snapshot == nil {
		return nil
	}
	var again func(tree []types.VirtualMachineSnapshotTree)
	again = func(tree []types.VirtualMachineSnapshotTree) {
		for i := range tree {
			old := tree[i].Snapshot
			snapshot := kept.snapshots[old]
			snapshot.Self.Value, snapshot.Vm = "", vm.Self
			Map.Put(snapshot)
			tree[i].Snapshot, tree[i].Vm = snapshot.Self, vm.Self
			if *vm.Snapshot.CurrentSnapshot == old {
				vm.Snapshot.CurrentSnapshot = &snapshot.Self
			}
			for j := range vm.Layout.Snapshot {
				if vm.Layout.Snapshot[j].Key == old {
					vm.Layout.Snapshot[j].Key = snapshot.Self
				}
			}
			for j := range vm.LayoutEx.Snapshot {
				if vm.LayoutEx.Snapshot[j].Key == old {
					vm.LayoutEx.Snapshot[j].Key = snapshot.Self
				}
			}
			again(tree[i].ChildSnapshotList)
		}
	}
	again(vm.Snapshot.RootSnapshotList)
	return nil
}

// PeerToolsRun starts the tools of all guests, which the simulator leaves out.
func PeerToolsRun() {
	for _, e := range Map.All("VirtualMachine") {
		if vm := e.(*VirtualMachine); vm.Guest != nil {
			vm.Guest.ToolsRunningStatus = string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
		}
	}
}

// PeerDatastoreType makes a datastore one of another kind.
func PeerDatastoreType(store types.ManagedObjectReference, kind string) {
	if ds, ok := Map.Get(store).(*Datastore); ok {
		ds.Summary.Type = kind
	}
}

// PeerPath is the file behind a datastore path such as "[store] dir/file.vmdk"; datacenters may each have a datastore of
// one name, so the datastore itself decides where it is known.
func PeerPath(name string, store *types.ManagedObjectReference) (string, error) {
	var at object.DatastorePath
	if !at.FromString(name) {
		return "", fmt.Errorf("%q is no datastore path", name)
	}
	for _, e := range Map.All("Datastore") {
		ds := e.(*Datastore)
		if ds.Name == at.Datastore && (store == nil || ds.Self == *store) {
			return path.Join(ds.Info.GetDatastoreInfo().Url, at.Path), nil
		}
	}
	return "", fmt.Errorf("there is no datastore %q", at.Datastore)
}

// PeerTask registers a task of an entity that stays as it is: running for ever, or failed with a fault.
func PeerTask(entity types.ManagedObjectReference, name string, fault types.BaseMethodFault, message string) types.ManagedObjectReference {
	task := CreateTask(entity, name, nil)
	now := time.Now()
	task.Info.StartTime = &now
	task.Info.State = types.TaskInfoStateRunning
	if fault == nil {
		peer.Lock()
		peer.stuck = append(peer.stuck, task)
		peer.Unlock()
	} else {
		task.Info.State = types.TaskInfoStateError
		task.Info.CompleteTime = &now
		task.Info.Error = &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: message}
	}
	if vm, ok := Map.Get(entity).(*VirtualMachine); ok {
		vm.RecentTask = append(vm.RecentTask, task.Self)
	}
	return task.Self
}

// PeerEndTasks lets tasks that never end fail, as one that an administrator cancels does: nothing of it is left at the host.
func PeerEndTasks() {
	peer.Lock()
	stuck := peer.stuck
	peer.stuck = nil
	peer.Unlock()
	for _, task := range stuck {
		now := time.Now()
		fault := &types.LocalizedMethodFault{Fault: &types.RequestCanceled{}, LocalizedMessage: "The task was canceled by a user."}
		Map.WithLock(task, func() {
			task.Info.State, task.Info.CompleteTime, task.Info.Error = types.TaskInfoStateError, &now, fault
		})
	}
}

// FindAllByUuid is missing from the packaged simulator, which can look for one VM only.
func (s *SearchIndex) FindAllByUuid(ctx *Context, req *types.FindAllByUuid) soap.HasFault {
	body := &methods.FindAllByUuidBody{Res: new(types.FindAllByUuidResponse)}
	for _, e := range Map.All("VirtualMachine") {
		vm := e.(*VirtualMachine)
		Map.WithLock(vm, func() {
			uuid := vm.Config.Uuid
			if req.InstanceUuid != nil && *req.InstanceUuid {
				uuid = vm.Config.InstanceUuid
			}
			if req.VmSearch && uuid == req.Uuid {
				body.Res.Returnval = append(body.Res.Returnval, vm.Self)
			}
		})
	}
	return body
}

// PeerFault makes a method fault of its name.
func PeerFault(name string) types.BaseMethodFault {
	switch name {
	case "FileFault":
		return &types.FileFault{File: "[LocalDS_0] disk.vmdk"}
	case "InvalidArgument":
		return &types.InvalidArgument{InvalidProperty: "changeId"}
	case "NotFound":
		return &types.NotFound{}
	case "MethodNotFound":
		return &types.MethodNotFound{}
	case "ApplicationQuiesceFault":
		return &types.ApplicationQuiesceFault{}
	case "FilesystemQuiesceFault":
		return &types.FilesystemQuiesceFault{}
	case "InsufficientResourcesFault":
		return &types.InsufficientResourcesFault{}
	case "NoPermission":
		return &types.NoPermission{Object: types.ManagedObjectReference{Type: "Folder", Value: "group-d1"}, PrivilegeId: "VirtualMachine.State.CreateSnapshot"}
	case "TaskInProgress":
		return &types.TaskInProgress{Task: types.ManagedObjectReference{Type: "Task", Value: "task-0"}}
	case "NoDiskSpace":
		return &types.NoDiskSpace{Datastore: "LocalDS_0"}
	case "NotAuthenticated":
		return &types.NotAuthenticated{NoPermission: types.NoPermission{Object: types.ManagedObjectReference{Type: "Folder", Value: "group-d1"}, PrivilegeId: "System.View"}}
	case "HostCommunication":
		return &types.HostCommunication{}
	default:
		return &types.SystemError{Reason: name}
	}
}

// PeerHostRelease gives the host of a VM another version or build, as after a patch; an empty one is none that it tells.
func PeerHostRelease(vm *VirtualMachine, what, value string) error {
	host, ok := Map.Get(*vm.Runtime.Host).(*HostSystem)
	if !ok {
		return fmt.Errorf("%q runs nowhere", vm.Name)
	}
	Map.WithLock(host, func() {
		if what == "host_version" {
			host.Config.Product.Version = value
		} else {
			host.Config.Product.Build = value
		}
	})
	return nil
}

// PeerSnapshots lists what snapshots there are, by VM, also those of VMs that were unregistered.
func PeerSnapshots() []map[string]interface{} {
	all := []map[string]interface{}{}
	var add func(vm string, tree []types.VirtualMachineSnapshotTree)
	add = func(vm string, tree []types.VirtualMachineSnapshotTree) {
		for _, it := range tree {
			all = append(all, map[string]interface{}{"vm": vm, "name": it.Name, "id": it.Snapshot.Value, "quiesced": it.Quiesced})
			add(vm, it.ChildSnapshotList)
		}
	}
	var vms []*VirtualMachine
	for _, e := range Map.All("VirtualMachine") {
		vms = append(vms, e.(*VirtualMachine))
	}
	peer.Lock()
	for _, it := range peer.kept {
		vms = append(vms, it.vm)
	}
	peer.Unlock()
	for _, vm := range vms {
		Map.WithLock(vm, func() {
			if vm.Snapshot != nil {
				add(vm.Name, vm.Snapshot.RootSnapshotList)
			}
		})
	}
	return all
}
