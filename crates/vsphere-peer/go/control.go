package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// command is one line of standard input; which of its fields count depends on what is to be done.
type command struct {
	Do      string               `json:"do"`
	Shape   vmShape              `json:"shape"`
	Trouble trouble              `json:"trouble"`
	VM      string               `json:"vm"`
	Name    string               `json:"name"`
	Key     int32                `json:"key"`
	Pages   []simulator.PeerPage `json:"pages"`
	Number  int                  `json:"number"`
}

// obey answers every command with one line: {"ok":…} or {"error":…}.
func obey(from io.Reader, to io.Writer, f *front) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 1<<16), 1<<24)
	answers := json.NewEncoder(to)
	for lines.Scan() {
		var it command
		var done interface{}
		err := json.Unmarshal(lines.Bytes(), &it)
		if err == nil {
			done, err = f.do(it)
		}
		answer := map[string]interface{}{"ok": done}
		if err != nil {
			answer = map[string]interface{}{"error": err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (f *front) do(it command) (interface{}, error) {
	switch it.Do {
	case "shape":
		return shape(it.Shape)
	case "trouble":
		f.mutex.Lock()
		defer f.mutex.Unlock()
		wanted := it.Trouble
		f.troubles = append(f.troubles, &wanted)
		return nil, nil
	case "calm":
		f.goOn(func(*trouble) bool { return false })
		return nil, nil
	case "go_on":
		f.goOn(func(it *trouble) bool { return it.Kind != "hold" })
		return nil, nil
	case "areas":
		simulator.PeerScript(it.VM, it.Key, it.Pages)
		return nil, nil
	case "page_size":
		simulator.PeerPageSize(it.Number)
		return nil, nil
	case "restart_tracking":
		simulator.PeerRestartTracking(it.Name)
		return nil, nil
	case "expire":
		simulator.PeerExpireSessions(f.service)
		return nil, nil
	case "become":
		simulator.PeerBecome(f.service, it.Name)
		return nil, nil
	case "end_tasks":
		simulator.PeerEndTasks()
		return nil, nil
	case "calls":
		f.mutex.Lock()
		defer f.mutex.Unlock()
		calls := map[string]int{}
		for method, count := range f.calls {
			calls[method] = count
		}
		return calls, nil
	case "holds":
		f.mutex.Lock()
		defer f.mutex.Unlock()
		return f.holding, nil
	case "snapshots":
		return simulator.PeerSnapshots(), nil
	case "vms":
		return vms(), nil
	case "register":
		return nil, simulator.PeerRegister(it.VM)
	case "snapshot", "remove_snapshots", "destroy", "move", "unregister", "host_build", "host_version":
		return nil, f.ordered(it)
	default:
		return nil, fmt.Errorf("there is no command %q", it.Do)
	}
}

// goOn lets calls that are held go on, and keeps what trouble is wanted still.
func (f *front) goOn(keep func(*trouble) bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var kept []*trouble
	for _, it := range f.troubles {
		if keep(it) {
			kept = append(kept, it)
		}
	}
	f.troubles = kept
	close(f.held)
	f.held = make(chan struct{})
}

func vms() interface{} {
	all := []map[string]string{}
	for _, e := range simulator.Map.All("VirtualMachine") {
		vm := e.(*simulator.VirtualMachine)
		all = append(all, map[string]string{"name": vm.Name, "id": vm.Self.Value})
	}
	return all
}

// ordered does what another administrator might.
func (f *front) ordered(it command) error {
	found := simulator.PeerVM(it.VM)
	if found == nil {
		return fmt.Errorf("there is no VM %q", it.VM)
	}
	ctx := context.Background()
	vm := object.NewVirtualMachine(simulator.PeerClient(f.service), found.Self)
	var task *object.Task
	var err error
	switch it.Do {
	case "snapshot":
		task, err = vm.CreateSnapshot(ctx, it.Name, "", false, false)
	case "remove_snapshots":
		task, err = vm.RemoveAllSnapshot(ctx, types.NewBool(true))
	case "move":
		return f.move(ctx, found, it.Name)
	case "host_build", "host_version":
		return simulator.PeerHostRelease(found, it.Do, it.Name)
	default:
		if found.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			if task, err = vm.PowerOff(ctx); err == nil {
				err = task.Wait(ctx)
			}
			if err != nil {
				return err
			}
		}
		if it.Do == "unregister" {
			folder := *found.Parent
			if err := vm.Unregister(ctx); err != nil {
				return err
			}
			simulator.PeerKeep(found, folder)
			return nil
		}
		task, err = vm.Destroy(ctx)
	}
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

// move puts a VM into a new folder beside the one that it lies in, and on another host where there is one.
func (f *front) move(ctx context.Context, vm *simulator.VirtualMachine, name string) error {
	client := simulator.PeerClient(f.service)
	if vm.Parent == nil {
		return fmt.Errorf("%q lies in no folder", vm.Name)
	}
	folder, err := object.NewFolder(client, *vm.Parent).CreateFolder(ctx, name)
	if err != nil {
		return err
	}
	task, err := folder.MoveInto(ctx, []types.ManagedObjectReference{vm.Self})
	if err != nil {
		return err
	}
	if err := task.Wait(ctx); err != nil {
		return err
	}
	for _, e := range simulator.Map.All("HostSystem") {
		host := e.Reference()
		if vm.Runtime.Host == nil || host == *vm.Runtime.Host {
			continue
		}
		task, err := object.NewVirtualMachine(client, vm.Self).Relocate(ctx, types.VirtualMachineRelocateSpec{Host: &host}, "")
		if err != nil {
			return err
		}
		return task.Wait(ctx)
	}
	return nil
}
