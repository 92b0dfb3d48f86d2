// Runs before the page is painted, so that a chosen theme doesn't flash.
(function () {
  try {
    var theme = localStorage.getItem("bandsox_theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (e) {
    // no storage: the system's theme it is
  }
})();
