// Before anything is painted: the colours that this person chose, or none, for those of the system.
try {
  const theme = localStorage.getItem("echo:theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system decides.
}
