package browsertest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

var shots = flag.String("shots", "", "write the screenshots of the documentation to this `folder`")

// axe-core, pinned: the package and what its script is.
const (
	axePackage = "axe-core@4.14.1"
	axeSum     = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
)

// browser is the browser of all tests; each has a tab of its own.
var (
	browser context.Context
	axe     string
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "browsertest")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if axe, err = fetchAxe(folder); err != nil {
		log.Print(err)
		return 1
	}
	path, err := findBrowser()
	if err != nil {
		log.Print(err)
		return 1
	}
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options, chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(folder, "profile")), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.WSURLReadTimeout(patience))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	var end context.CancelFunc
	browser, end = chromedp.NewContext(allocator)
	defer end()
	if err := chromedp.Do(browser); err != nil {
		log.Printf("%s does not start: %v", path, err)
		return 1
	}
	return m.Run()
}

func findBrowser() (string, error) {
	if named := os.Getenv("TENANT_TEST_BROWSER"); named != "" {
		return exec.LookPath(named)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("these tests need a browser; type\n\n\tapt-get install -y --no-install-recommends chromium\n\nor name one with TENANT_TEST_BROWSER")
}

// fetchAxe gets axe-core as npm has it.
func fetchAxe(folder string) (string, error) {
	if _, err := exec.LookPath("npm"); err != nil {
		return "", fmt.Errorf("these tests need npm, to fetch %s; type\n\n\tapt-get install -y --no-install-recommends npm", axePackage)
	}
	install := exec.Command("npm", "install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", axePackage)
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm does not fetch %s, which these tests need (is its registry reachable? try: npm view %s): %w\n%s", axePackage, axePackage, err, out)
	}
	file, err := os.Open(filepath.Join(folder, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	script, err := io.ReadAll(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(script)
	if got := hex.EncodeToString(sum[:]); got != axeSum {
		return "", fmt.Errorf("the script of %s is not the one that is pinned: its SHA-256 is %s", axePackage, got)
	}
	return string(script), nil
}
