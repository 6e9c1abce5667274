package vss

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// enumerations are requester.md 5.1, 5.2, 5.4, 5.5 and 5.6: every constant with
// its number.
var enumerations = map[string]struct{ got, want int64 }{
	"CTX_BACKUP":                    {int64(CTX_BACKUP), 0x00000000},
	"CTX_FILE_SHARE_BACKUP":         {int64(CTX_FILE_SHARE_BACKUP), 0x00000010},
	"CTX_NAS_ROLLBACK":              {int64(CTX_NAS_ROLLBACK), 0x00000019},
	"CTX_APP_ROLLBACK":              {int64(CTX_APP_ROLLBACK), 0x00000009},
	"CTX_CLIENT_ACCESSIBLE":         {int64(CTX_CLIENT_ACCESSIBLE), 0x0000001D},
	"CTX_CLIENT_ACCESSIBLE_WRITERS": {int64(CTX_CLIENT_ACCESSIBLE_WRITERS), 0x0000000D},
	"CTX_ALL":                       {int64(CTX_ALL), 0xFFFFFFFF},

	"ATTR_PERSISTENT":           {int64(ATTR_PERSISTENT), 0x00000001},
	"ATTR_NO_AUTORECOVERY":      {int64(ATTR_NO_AUTORECOVERY), 0x00000002},
	"ATTR_CLIENT_ACCESSIBLE":    {int64(ATTR_CLIENT_ACCESSIBLE), 0x00000004},
	"ATTR_NO_AUTO_RELEASE":      {int64(ATTR_NO_AUTO_RELEASE), 0x00000008},
	"ATTR_NO_WRITERS":           {int64(ATTR_NO_WRITERS), 0x00000010},
	"ATTR_TRANSPORTABLE":        {int64(ATTR_TRANSPORTABLE), 0x00000020},
	"ATTR_NOT_SURFACED":         {int64(ATTR_NOT_SURFACED), 0x00000040},
	"ATTR_NOT_TRANSACTED":       {int64(ATTR_NOT_TRANSACTED), 0x00000080},
	"ATTR_HARDWARE_ASSISTED":    {int64(ATTR_HARDWARE_ASSISTED), 0x00010000},
	"ATTR_DIFFERENTIAL":         {int64(ATTR_DIFFERENTIAL), 0x00020000},
	"ATTR_PLEX":                 {int64(ATTR_PLEX), 0x00040000},
	"ATTR_IMPORTED":             {int64(ATTR_IMPORTED), 0x00080000},
	"ATTR_EXPOSED_LOCALLY":      {int64(ATTR_EXPOSED_LOCALLY), 0x00100000},
	"ATTR_EXPOSED_REMOTELY":     {int64(ATTR_EXPOSED_REMOTELY), 0x00200000},
	"ATTR_AUTORECOVER":          {int64(ATTR_AUTORECOVER), 0x00400000},
	"ATTR_ROLLBACK_RECOVERY":    {int64(ATTR_ROLLBACK_RECOVERY), 0x00800000},
	"ATTR_DELAYED_POSTSNAPSHOT": {int64(ATTR_DELAYED_POSTSNAPSHOT), 0x01000000},
	"ATTR_TXF_RECOVERY":         {int64(ATTR_TXF_RECOVERY), 0x02000000},
	"ATTR_FILE_SHARE":           {int64(ATTR_FILE_SHARE), 0x04000000},

	"SS_UNKNOWN":                    {int64(SS_UNKNOWN), 0},
	"SS_PREPARING":                  {int64(SS_PREPARING), 1},
	"SS_PROCESSING_PREPARE":         {int64(SS_PROCESSING_PREPARE), 2},
	"SS_PREPARED":                   {int64(SS_PREPARED), 3},
	"SS_PROCESSING_PRECOMMIT":       {int64(SS_PROCESSING_PRECOMMIT), 4},
	"SS_PRECOMMITTED":               {int64(SS_PRECOMMITTED), 5},
	"SS_PROCESSING_COMMIT":          {int64(SS_PROCESSING_COMMIT), 6},
	"SS_COMMITTED":                  {int64(SS_COMMITTED), 7},
	"SS_PROCESSING_POSTCOMMIT":      {int64(SS_PROCESSING_POSTCOMMIT), 8},
	"SS_PROCESSING_PREFINALCOMMIT":  {int64(SS_PROCESSING_PREFINALCOMMIT), 9},
	"SS_PREFINALCOMMITTED":          {int64(SS_PREFINALCOMMITTED), 10},
	"SS_PROCESSING_POSTFINALCOMMIT": {int64(SS_PROCESSING_POSTFINALCOMMIT), 11},
	"SS_CREATED":                    {int64(SS_CREATED), 12},
	"SS_ABORTED":                    {int64(SS_ABORTED), 13},
	"SS_DELETED":                    {int64(SS_DELETED), 14},
	"SS_POSTCOMMITTED":              {int64(SS_POSTCOMMITTED), 15},
	"SS_COUNT":                      {int64(SS_COUNT), 16},

	"OBJECT_UNKNOWN":      {int64(OBJECT_UNKNOWN), 0},
	"OBJECT_NONE":         {int64(OBJECT_NONE), 1},
	"OBJECT_SNAPSHOT_SET": {int64(OBJECT_SNAPSHOT_SET), 2},
	"OBJECT_SNAPSHOT":     {int64(OBJECT_SNAPSHOT), 3},
	"OBJECT_PROVIDER":     {int64(OBJECT_PROVIDER), 4},
	"OBJECT_TYPE_COUNT":   {int64(OBJECT_TYPE_COUNT), 5},

	"PROV_UNKNOWN":   {int64(PROV_UNKNOWN), 0},
	"PROV_SYSTEM":    {int64(PROV_SYSTEM), 1},
	"PROV_SOFTWARE":  {int64(PROV_SOFTWARE), 2},
	"PROV_HARDWARE":  {int64(PROV_HARDWARE), 3},
	"PROV_FILESHARE": {int64(PROV_FILESHARE), 4},

	"BT_UNDEFINED":    {int64(BT_UNDEFINED), 0},
	"BT_FULL":         {int64(BT_FULL), 1},
	"BT_INCREMENTAL":  {int64(BT_INCREMENTAL), 2},
	"BT_DIFFERENTIAL": {int64(BT_DIFFERENTIAL), 3},
	"BT_LOG":          {int64(BT_LOG), 4},
	"BT_COPY":         {int64(BT_COPY), 5},
	"BT_OTHER":        {int64(BT_OTHER), 6},

	"RTYPE_UNDEFINED": {int64(RTYPE_UNDEFINED), 0},
	"RTYPE_BY_COPY":   {int64(RTYPE_BY_COPY), 1},
	"RTYPE_IMPORT":    {int64(RTYPE_IMPORT), 2},
	"RTYPE_OTHER":     {int64(RTYPE_OTHER), 3},

	"RS_UNDEFINED": {int64(RS_UNDEFINED), 0},
	"RS_NONE":      {int64(RS_NONE), 1},
	"RS_ALL":       {int64(RS_ALL), 2},
	"RS_FAILED":    {int64(RS_FAILED), 3},

	"CT_UNDEFINED": {int64(CT_UNDEFINED), 0},
	"CT_DATABASE":  {int64(CT_DATABASE), 1},
	"CT_FILEGROUP": {int64(CT_FILEGROUP), 2},

	"BREAKEX_FLAG_MASK_LUNS":                    {int64(BREAKEX_FLAG_MASK_LUNS), 0x1},
	"BREAKEX_FLAG_MAKE_READ_WRITE":              {int64(BREAKEX_FLAG_MAKE_READ_WRITE), 0x2},
	"BREAKEX_FLAG_REVERT_IDENTITY_ALL":          {int64(BREAKEX_FLAG_REVERT_IDENTITY_ALL), 0x4},
	"BREAKEX_FLAG_REVERT_IDENTITY_NONE":         {int64(BREAKEX_FLAG_REVERT_IDENTITY_NONE), 0x8},
	"ONLUNSTATECHANGE_NOTIFY_READ_WRITE":        {int64(ONLUNSTATECHANGE_NOTIFY_READ_WRITE), 0x100},
	"ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY":  {int64(ONLUNSTATECHANGE_NOTIFY_LUN_PRE_RECOVERY), 0x200},
	"ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY": {int64(ONLUNSTATECHANGE_NOTIFY_LUN_POST_RECOVERY), 0x400},
	"ONLUNSTATECHANGE_DO_MASK_LUNS":             {int64(ONLUNSTATECHANGE_DO_MASK_LUNS), 0x800},

	"RECOVERY_REVERT_IDENTITY_ALL": {int64(RECOVERY_REVERT_IDENTITY_ALL), 0x100},
	"RECOVERY_NO_VOLUME_CHECK":     {int64(RECOVERY_NO_VOLUME_CHECK), 0x200},

	"SC_DISABLE_DEFRAG":       {int64(SC_DISABLE_DEFRAG), 0x1},
	"SC_DISABLE_CONTENTINDEX": {int64(SC_DISABLE_CONTENTINDEX), 0x2},

	"RF_UNDEFINED": {int64(RF_UNDEFINED), 0},
	"RF_NONE":      {int64(RF_NONE), 1},
	"RF_ALL":       {int64(RF_ALL), 2},
	"RF_PARTIAL":   {int64(RF_PARTIAL), 3},

	"RT_UNDEFINED":         {int64(RT_UNDEFINED), 0},
	"RT_ORIGINAL":          {int64(RT_ORIGINAL), 1},
	"RT_ALTERNATE":         {int64(RT_ALTERNATE), 2},
	"RT_DIRECTED":          {int64(RT_DIRECTED), 3},
	"RT_ORIGINAL_LOCATION": {int64(RT_ORIGINAL_LOCATION), 4},

	"RME_UNDEFINED":                           {int64(RME_UNDEFINED), 0},
	"RME_RESTORE_IF_NOT_THERE":                {int64(RME_RESTORE_IF_NOT_THERE), 1},
	"RME_RESTORE_IF_CAN_REPLACE":              {int64(RME_RESTORE_IF_CAN_REPLACE), 2},
	"RME_STOP_RESTORE_START":                  {int64(RME_STOP_RESTORE_START), 3},
	"RME_RESTORE_TO_ALTERNATE_LOCATION":       {int64(RME_RESTORE_TO_ALTERNATE_LOCATION), 4},
	"RME_RESTORE_AT_REBOOT":                   {int64(RME_RESTORE_AT_REBOOT), 5},
	"RME_RESTORE_AT_REBOOT_IF_CANNOT_REPLACE": {int64(RME_RESTORE_AT_REBOOT_IF_CANNOT_REPLACE), 6},
	"RME_CUSTOM":                              {int64(RME_CUSTOM), 7},
	"RME_RESTORE_STOP_START":                  {int64(RME_RESTORE_STOP_START), 8},

	"WRE_UNDEFINED":        {int64(WRE_UNDEFINED), 0},
	"WRE_NEVER":            {int64(WRE_NEVER), 1},
	"WRE_IF_REPLACE_FAILS": {int64(WRE_IF_REPLACE_FAILS), 2},
	"WRE_ALWAYS":           {int64(WRE_ALWAYS), 3},

	"BS_UNDEFINED":                          {int64(BS_UNDEFINED), 0},
	"BS_DIFFERENTIAL":                       {int64(BS_DIFFERENTIAL), 0x1},
	"BS_INCREMENTAL":                        {int64(BS_INCREMENTAL), 0x2},
	"BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL": {int64(BS_EXCLUSIVE_INCREMENTAL_DIFFERENTIAL), 0x4},
	"BS_LOG":                                {int64(BS_LOG), 0x8},
	"BS_COPY":                               {int64(BS_COPY), 0x10},
	"BS_TIMESTAMPED":                        {int64(BS_TIMESTAMPED), 0x20},
	"BS_LAST_MODIFY":                        {int64(BS_LAST_MODIFY), 0x40},
	"BS_LSN":                                {int64(BS_LSN), 0x80},
	"BS_WRITER_SUPPORTS_NEW_TARGET":         {int64(BS_WRITER_SUPPORTS_NEW_TARGET), 0x100},
	"BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE":  {int64(BS_WRITER_SUPPORTS_RESTORE_WITH_MOVE), 0x200},
	"BS_INDEPENDENT_SYSTEM_STATE":           {int64(BS_INDEPENDENT_SYSTEM_STATE), 0x400},
	"BS_ROLLFORWARD_RESTORE":                {int64(BS_ROLLFORWARD_RESTORE), 0x1000},
	"BS_RESTORE_RENAME":                     {int64(BS_RESTORE_RENAME), 0x2000},
	"BS_AUTHORITATIVE_RESTORE":              {int64(BS_AUTHORITATIVE_RESTORE), 0x4000},
	"BS_WRITER_SUPPORTS_PARALLEL_RESTORES":  {int64(BS_WRITER_SUPPORTS_PARALLEL_RESTORES), 0x8000},

	"FSBT_FULL_BACKUP_REQUIRED":           {int64(FSBT_FULL_BACKUP_REQUIRED), 0x1},
	"FSBT_DIFFERENTIAL_BACKUP_REQUIRED":   {int64(FSBT_DIFFERENTIAL_BACKUP_REQUIRED), 0x2},
	"FSBT_INCREMENTAL_BACKUP_REQUIRED":    {int64(FSBT_INCREMENTAL_BACKUP_REQUIRED), 0x4},
	"FSBT_LOG_BACKUP_REQUIRED":            {int64(FSBT_LOG_BACKUP_REQUIRED), 0x8},
	"FSBT_FULL_SNAPSHOT_REQUIRED":         {int64(FSBT_FULL_SNAPSHOT_REQUIRED), 0x100},
	"FSBT_DIFFERENTIAL_SNAPSHOT_REQUIRED": {int64(FSBT_DIFFERENTIAL_SNAPSHOT_REQUIRED), 0x200},
	"FSBT_INCREMENTAL_SNAPSHOT_REQUIRED":  {int64(FSBT_INCREMENTAL_SNAPSHOT_REQUIRED), 0x400},
	"FSBT_LOG_SNAPSHOT_REQUIRED":          {int64(FSBT_LOG_SNAPSHOT_REQUIRED), 0x800},
	"FSBT_CREATED_DURING_BACKUP":          {int64(FSBT_CREATED_DURING_BACKUP), 0x10000},
	"FSBT_ALL_BACKUP_REQUIRED":            {int64(FSBT_ALL_BACKUP_REQUIRED), 0xF},
	"FSBT_ALL_SNAPSHOT_REQUIRED":          {int64(FSBT_ALL_SNAPSHOT_REQUIRED), 0xF00},

	"CF_BACKUP_RECOVERY":       {int64(CF_BACKUP_RECOVERY), 1},
	"CF_APP_ROLLBACK_RECOVERY": {int64(CF_APP_ROLLBACK_RECOVERY), 2},
	"CF_NOT_SYSTEM_STATE":      {int64(CF_NOT_SYSTEM_STATE), 4},

	"UT_UNDEFINED":           {int64(UT_UNDEFINED), 0},
	"UT_BOOTABLESYSTEMSTATE": {int64(UT_BOOTABLESYSTEMSTATE), 1},
	"UT_SYSTEMSERVICE":       {int64(UT_SYSTEMSERVICE), 2},
	"UT_USERDATA":            {int64(UT_USERDATA), 3},
	"UT_OTHER":               {int64(UT_OTHER), 4},

	"ST_UNDEFINED":       {int64(ST_UNDEFINED), 0},
	"ST_TRANSACTEDDB":    {int64(ST_TRANSACTEDDB), 1},
	"ST_NONTRANSACTEDDB": {int64(ST_NONTRANSACTEDDB), 2},
	"ST_OTHER":           {int64(ST_OTHER), 3},

	"APP_UNKNOWN":   {int64(APP_UNKNOWN), 0},
	"APP_SYSTEM":    {int64(APP_SYSTEM), 1},
	"APP_BACK_END":  {int64(APP_BACK_END), 2},
	"APP_FRONT_END": {int64(APP_FRONT_END), 3},
	"APP_SYSTEM_RM": {int64(APP_SYSTEM_RM), 4},
	"APP_AUTO":      {int64(APP_AUTO), -1},

	"WS_UNKNOWN":                     {int64(WS_UNKNOWN), 0},
	"WS_STABLE":                      {int64(WS_STABLE), 1},
	"WS_WAITING_FOR_FREEZE":          {int64(WS_WAITING_FOR_FREEZE), 2},
	"WS_WAITING_FOR_THAW":            {int64(WS_WAITING_FOR_THAW), 3},
	"WS_WAITING_FOR_POST_SNAPSHOT":   {int64(WS_WAITING_FOR_POST_SNAPSHOT), 4},
	"WS_WAITING_FOR_BACKUP_COMPLETE": {int64(WS_WAITING_FOR_BACKUP_COMPLETE), 5},
	"WS_FAILED_AT_IDENTIFY":          {int64(WS_FAILED_AT_IDENTIFY), 6},
	"WS_FAILED_AT_PREPARE_BACKUP":    {int64(WS_FAILED_AT_PREPARE_BACKUP), 7},
	"WS_FAILED_AT_PREPARE_SNAPSHOT":  {int64(WS_FAILED_AT_PREPARE_SNAPSHOT), 8},
	"WS_FAILED_AT_FREEZE":            {int64(WS_FAILED_AT_FREEZE), 9},
	"WS_FAILED_AT_THAW":              {int64(WS_FAILED_AT_THAW), 10},
	"WS_FAILED_AT_POST_SNAPSHOT":     {int64(WS_FAILED_AT_POST_SNAPSHOT), 11},
	"WS_FAILED_AT_BACKUP_COMPLETE":   {int64(WS_FAILED_AT_BACKUP_COMPLETE), 12},
	"WS_FAILED_AT_PRE_RESTORE":       {int64(WS_FAILED_AT_PRE_RESTORE), 13},
	"WS_FAILED_AT_POST_RESTORE":      {int64(WS_FAILED_AT_POST_RESTORE), 14},
	"WS_FAILED_AT_BACKUPSHUTDOWN":    {int64(WS_FAILED_AT_BACKUPSHUTDOWN), 15},
	"WS_COUNT":                       {int64(WS_COUNT), 16},
}

func TestEnumerationValues(t *testing.T) {
	for name, e := range enumerations {
		if e.got != e.want {
			t.Errorf("%s is %#x, want %#x", name, e.got, e.want)
		}
	}
}

// TestEveryConstantIsInTheTable reads the package's source, so that a constant
// cannot be added without its number being checked.
func TestEveryConstantIsInTheTable(t *testing.T) {
	table := map[string]bool{}
	for name := range enumerations {
		table[name] = true
	}
	for _, r := range hresults {
		table[r.name] = true
	}
	n := 0
	for _, file := range []string{"enums.go", "context.go", "hresult_codes.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				for _, name := range s.(*ast.ValueSpec).Names {
					n++
					if name.IsExported() && !table[name.Name] {
						t.Errorf("%s has no row in the tables of this package's tests", name.Name)
					}
				}
			}
		}
	}
	if n < 200 {
		t.Fatalf("only %d constants were found", n)
	}
}

func TestEnumerationNames(t *testing.T) {
	for _, v := range []fmt.Stringer{
		SS_CREATED, OBJECT_SNAPSHOT, PROV_HARDWARE, BT_COPY, RTYPE_IMPORT, RS_ALL, CT_DATABASE, BREAKEX_FLAG_MASK_LUNS,
		RECOVERY_NO_VOLUME_CHECK, SC_DISABLE_DEFRAG, RF_ALL, RT_DIRECTED, RME_CUSTOM, WRE_ALWAYS, BS_LOG,
		FSBT_CREATED_DURING_BACKUP, CF_NOT_SYSTEM_STATE, UT_USERDATA, ST_OTHER, APP_AUTO, WS_STABLE,
	} {
		if e, ok := enumerations[v.String()]; !ok {
			t.Errorf("%v is not its name", v)
		} else if !strings.HasSuffix(fmt.Sprintf("%d", v), strconv.FormatInt(e.want, 10)) {
			t.Errorf("%v has the name of another value", v)
		}
	}
	for want, v := range map[string]fmt.Stringer{
		"99": SnapshotState(99), "-7": ApplicationLevel(-7), "4096": HardwareOptions(4096),
		"4294967295": BackupSchema(0xFFFFFFFF),
	} {
		if v.String() != want {
			t.Errorf("an unknown value is %q, want %q", v.String(), want)
		}
	}
}
