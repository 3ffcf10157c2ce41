package api

import (
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rootLogger is the one logger there is, under the name that Kafka's tools use (KIP-412).
const rootLogger = "root"

const logLevels = "TRACE, DEBUG, INFO, WARN, ERROR, FATAL"

// loggerResource checks the name of a BROKER_LOGGER resource.
func (a *API) loggerResource(name string) error {
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return fmt.Errorf("%w: %.64q is not the id of a broker", kerr.InvalidRequest, name)
	}
	if int32(id) != a.cfg.NodeID {
		return fmt.Errorf("%w: broker %d was asked for its loggers and is %d", kerr.InvalidRequest, id, a.cfg.NodeID)
	}
	return nil
}

func (a *API) loggerRows() []configRow {
	row := kmsg.NewDescribeConfigsResponseResourceConfig()
	row.Name, row.Value = rootLogger, kmsg.StringPtr(a.cfg.Broker.LogLevel())
	row.Source, row.ConfigType = kmsg.ConfigSourceDynamicBrokerLoggerConfig, kmsg.ConfigTypeString
	row.Documentation = kmsg.StringPtr("Least severe line that the broker writes. What is set here counts until the broker stops; log.level is for every start.")
	return []configRow{row}
}

// alterLoggers changes the level of the root logger, all or nothing.
func (a *API) alterLoggers(name string, ops []configOp, replace, dry bool) error {
	if replace {
		return fmt.Errorf("%w: loggers are changed with IncrementalAlterConfigs", kerr.InvalidRequest)
	}
	if err := a.loggerResource(name); err != nil {
		return err
	}
	seen := false
	for _, o := range ops {
		switch {
		case o.op != kmsg.IncrementalAlterConfigOpSet && o.op != kmsg.IncrementalAlterConfigOpDelete:
			return fmt.Errorf("%w: operation %d is not possible on a logger", kerr.InvalidRequest, o.op)
		case o.name != rootLogger:
			return fmt.Errorf("%w: there is no logger %.64q; the only one is %s", kerr.InvalidConfig, o.name, rootLogger)
		case o.op == kmsg.IncrementalAlterConfigOpDelete:
			return fmt.Errorf("%w: the level of logger %s cannot be removed", kerr.InvalidRequest, rootLogger)
		case seen:
			return fmt.Errorf("%w: logger %s is named more than once", kerr.InvalidRequest, rootLogger)
		case o.value == nil || !validLevel(*o.value):
			return fmt.Errorf("%w: a logger's level is one of %s", kerr.InvalidConfig, logLevels)
		}
		seen = true
	}
	if dry || !seen {
		return nil
	}
	if !a.cfg.Broker.SetLogLevel(*ops[0].value) {
		return fmt.Errorf("%w: this process does not let its log level be changed", kerr.InvalidRequest)
	}
	return nil
}

func validLevel(name string) bool {
	switch name {
	case "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL":
		return true
	}
	return false
}
